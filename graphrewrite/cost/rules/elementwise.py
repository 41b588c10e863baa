"""Everything without multiply-accumulates: what is done once per element, what only moves data, what reads a window.

Each operator of the default domain that is not in a file of its own is in exactly one table here; a test compares the
tables with the operator list of the installed onnx.
"""

from math import prod

from graphrewrite.cost.registry import moves, ops_rule, per_input, per_output, uncounted
from graphrewrite.cost.site import Site

# One arithmetic operation, comparison or function for each output element.
_FUNCTIONS = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr "
    "BitwiseXor BlackmanWindow Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater "
    "GreaterOrEqual HammingWindow HannWindow HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual "
    "Log MelWeightMatrix Mish Mod Mul Multinomial Neg Not Or PRelu Pow RandomNormal RandomNormalLike "
    "RandomUniform RandomUniformLike Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus "
    "Softsign Sqrt Sub Swish Tan Tanh ThresholdedRelu Where Xor"
)
# Several for each output element; the comment names them.
_COMPOSITE = {
    "BatchNormalization": 2,  # multiply, add: the statistics are folded beforehand
    "DequantizeLinear": 2,  # subtract, multiply
    "DynamicQuantizeLinear": 5,  # smallest, largest, divide, round, add
    "GroupNormalization": 7,  # mean, subtract, square, mean, divide, multiply, add
    "InstanceNormalization": 7,
    "LayerNormalization": 7,
    "LogSoftmax": 5,  # largest, subtract, exponential, sum, subtract
    "LpNormalization": 3,  # power, sum, divide
    "MeanVarianceNormalization": 5,
    "QuantizeLinear": 3,  # divide, round, add
    "RMSNormalization": 4,  # square, mean, divide, multiply
    "RotaryEmbedding": 3,  # two multiplications and a sum
    "SimplifiedLayerNormalization": 4,  # onnxruntime's name for RMSNormalization, filed by it in the default domain
    "Softmax": 5,  # largest, subtract, exponential, sum, divide
    "SwiGLU": 2,  # activation, multiply
}
# For each input element. Searching and selecting depend on the numbers: at least every element is looked at once.
_REDUCTIONS = {
    "ArgMax": 1,
    "ArgMin": 1,
    "CumProd": 1,
    "CumSum": 1,
    "GlobalAveragePool": 1,
    "GlobalLpPool": 2,
    "GlobalMaxPool": 1,
    "Hardmax": 1,
    "NegativeLogLikelihoodLoss": 1,
    "NonMaxSuppression": 1,
    "NonZero": 1,
    "ReduceL1": 2,
    "ReduceL2": 2,
    "ReduceLogSum": 1,
    "ReduceLogSumExp": 4,
    "ReduceMax": 1,
    "ReduceMean": 1,
    "ReduceMin": 1,
    "ReduceProd": 1,
    "ReduceSum": 1,
    "ReduceSumSquare": 2,
    "RegexFullMatch": 1,
    "SoftmaxCrossEntropyLoss": 6,
    "StringNormalizer": 1,
    "StringSplit": 1,
    "TfIdfVectorizer": 1,
    "TopK": 1,
    "Unique": 1,
}
# Views, copies, choices by index, conversions of type, containers. The bodies of If, Loop, Scan and SequenceMap are
# counted where the table is built; the nodes themselves only hand tensors over.
_MOVES = (
    "BitCast Cast CastLike CenterCropPad Compress Concat ConcatFromSequence Constant ConstantOfShape "
    "DepthToSpace Dropout Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop "
    "MaxUnpool OneHot Optional OptionalGetElement OptionalHasElement Pad Range Reshape ReverseSequence "
    "Scan Scatter ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty SequenceErase "
    "SequenceInsert SequenceLength SequenceMap Shape Size Slice SpaceToDepth Split SplitToSequence "
    "Squeeze StringConcat TensorScatter Tile Transpose Trilu Unsqueeze"
)

per_output(dict.fromkeys(_FUNCTIONS.split(), 1))
per_output(_COMPOSITE)
per_input(_REDUCTIONS)
moves(_MOVES.split())
uncounted({"ImageDecoder": "decompression depends on the picture"})
uncounted(
    {
        "Adagrad": "a training step, not inference",
        "Adam": "a training step, not inference",
        "Gradient": "the derivative of a whole graph",
        "Momentum": "a training step, not inference",
    },
    domain="ai.onnx.preview.training",
)

# onnxruntime's fused and quantized forms of the above.
per_output(
    {
        "BiasAdd": 2,
        "BiasDropout": 1,
        "BiasGelu": 2,
        "BiasSoftmax": 6,
        "BiasSplitGelu": 3,
        "DequantizeLinear": 2,
        "EmbedLayerNormalization": 9,
        "FastGelu": 1,
        "Gelu": 1,
        "GemmaRotaryEmbedding": 3,
        "GroupNorm": 7,
        "QLinearAdd": 1,
        "QLinearLeakyRelu": 1,
        "QLinearMul": 1,
        "QLinearSigmoid": 1,
        "QLinearSoftmax": 5,
        "QEmbedLayerNormalization": 15,
        "QLinearWhere": 1,
        "QuantizeLinear": 3,
        "QuickGelu": 2,
        "RotaryEmbedding": 3,
        "ScaledSiLU": 2,
        "SimplifiedLayerNormalization": 4,
        "SkipGroupNorm": 8,
        "SkipLayerNormalization": 8,
        "SkipSimplifiedLayerNormalization": 5,
    },
    domain="com.microsoft",
)
per_input(
    {"QLinearGlobalAveragePool": 1, "QLinearReduceMean": 1, "ReduceSumInteger": 1}, domain="com.microsoft"
)
per_output({"GatherBlockQuantized": 2}, domain="com.microsoft")
per_input({"GlobalAveragePool": 1, "GlobalMaxPool": 1}, domain="com.microsoft.nchwc")
moves(("ReorderInput", "ReorderOutput", "Upsample"), domain="com.microsoft.nchwc")
_MOVES_MICROSOFT = (
    "ExpandDims GatherND Pad QLinearConcat Range RelativePositionBias RemovePadding RestorePadding Trilu "
    "UnfoldTensor"
)
moves(_MOVES_MICROSOFT.split(), domain="com.microsoft")


@ops_rule("Sum", "Mean", "Max", "Min")
def variadic(site: Site) -> int:
    """One operation for each further operand; a mean divides once more."""
    operands = len(site.node.inputs)
    return site.output_count() * (operands if site.node.op == "Mean" else operands - 1)


@ops_rule("AveragePool", "MaxPool", "LpPool")
@ops_rule("QLinearAveragePool", "NhwcMaxPool", domain="com.microsoft")
@ops_rule("AveragePool", "MaxPool", domain="com.microsoft.nchwc")
def pool(site: Site) -> int:
    """Every output looks at a whole window; a power mean raises each number first."""
    window = prod(site.int_list("kernel_shape") or [1])
    return site.output_count() * window * (2 if site.node.op == "LpPool" else 1)


@ops_rule("LRN")
def local_response(site: Site) -> int:
    """A sum of squares over `size` channels, then a power and a quotient."""
    return site.output_count() * (2 * site.attr("size", 1) + 2)


@ops_rule("Resize", "Upsample")
def resize(site: Site) -> int:
    """Two numbers are blended along each axis that changes, four when cubic; the nearest one is only copied."""
    mode = site.attr("mode", "nearest")
    if mode == "nearest":
        return 0
    changed = sum(before != after for before, after in zip(site.input(0), site.output(), strict=True))
    taps = 4 if mode == "cubic" else 2
    return site.output_count() * int(taps**changed)


@ops_rule("GridSample")
@ops_rule("GridSample", domain="com.microsoft")
def grid_sample(site: Site) -> int:
    """Two numbers are blended along each of the axes the grid has coordinates for, four when cubic."""
    mode = site.attr("mode", "linear")
    if mode == "nearest":
        return 0
    return site.output_count() * int((4 if "cubic" in mode else 2) ** site.input(1)[-1])


@ops_rule("RoiAlign", "MaxRoiPool")
def regions(site: Site) -> int:
    """Four neighbours for each sampled point; one point a bin where the number depends on the region."""
    points = site.attr("sampling_ratio", 0) ** 2 or 1
    return site.output_count() * (4 * points if site.node.op == "RoiAlign" else 1)
