"""Operators that are left whole on purpose, each with the reason that a user is told.

An operator neither ruled nor listed here is one that nobody thought of; a test compares with all known schemas.
"""

from collections.abc import Callable, Mapping

from graphrewrite.dims.rules.contrib import MICROSOFT
from graphrewrite.dims.sweep import Step, rule

_STANDARD: Mapping[str, str] = {
    "text has no axes to cut": "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
    "a picture in a file has no axes to cut": "ImageDecoder",
    "it makes numbers of a length, no layer does": (
        "Constant RandomNormal RandomUniform HannWindow HammingWindow BlackmanWindow MelWeightMatrix"
    ),
    "a grid of places in an image": "AffineGrid",
    "a spectrum of a signal: frequencies are told apart by their place": "STFT",
    "a loss tells classes apart by number": "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "a body over the items of a sequence is not followed": "SequenceMap",
    "no runtime at hand computes it, so a cut could not be proved": "LinearAttention CausalConvWithState",
}
_MICROSOFT: Mapping[str, str] = {
    "a search with the decoder inside": "BeamSearch GreedySearch Sampling WhisperBeamSearch SampleOp",
    "text has no axes to cut": "Tokenizer WordConvEmbedding MurmurHash3 NGramHashMapping VarlenNGramHashMapping",
    "compiled for one machine": "EPContext Snpe",
    "batches without padding are not followed": (
        "PackedAttention PackedMultiHeadAttention PackedSparseAttentionIndexer RemovePadding RestorePadding "
        "VarlenCausalConvWithState PagedAttention SparsePagedAttention"
    ),
    "sparse attention: blocks are told apart by their place": (
        "SparseAttention SparseAttentionIndexer DynamicSparseAttention LongformerAttention QOrderedLongformerAttention"
    ),
    "no CPU kernel computes it, so a cut could not be proved": (
        "BiasDropout BiasSoftmax BitmaskBiasDropout BitmaskDropout ComplexMul ComplexMulConj DecoderAttention "
        "DecoderMaskedSelfAttention FusedMatMulActivation GatedDeltaNet GatedRelativePositionBias GemmFastGelu "
        "GemmFloat8 GemmaRotaryEmbedding MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight MatMulNBitsMlp "
        "MatMulNBitsQkv MulInteger QLinearReduceMean QOrderedAttention QOrderedGelu QOrderedLayerNormalization "
        "QOrderedMatMul QuantizeWithOrder DequantizeWithOrder ReduceSumInteger Rfft Irfft IsAllFinite TorchEmbedding"
    ),
    "numbers share an exponent in blocks along an axis": "QuantizeBFP DequantizeBFP",
    "packed weights whose blocks run along both widths": "MatMulFpQ4 GatherBlockQuantized",
    "places in an image or a signal, found by their values": (
        "CropAndResize DynamicTimeWarping UnfoldTensor NGramRepeatBlock BifurcationDetector MaxpoolWithMask"
    ),
    "pads that are computed": "ConvTransposeWithDynamicPads",
    "a sparse operand": "SparseToDenseMatMul",
    "distances between rows, counted over all features": "CDist",
    "several layers in one, inner widths not followed": (
        "AttnLSTM CausalConvWithState LinearAttention LinearAttentionGate MRotaryEmbedding BranchwiseRMSNorm "
        "GatedRMSNorm EngramGate GatedAdd HyperConnectionPostMix HyperConnectionPreMix ScaledSiLU"
    ),
    "superseded by the standard operator of the same name; convert the model": (
        "ExpandDims GatherND GridSample Pad Range Trilu Unique MatMulInteger16"
    ),
}
_OTHER: Mapping[str, Mapping[str, str]] = {
    "ai.onnx.preview": {"no runtime at hand computes it, so a cut could not be proved": "FlexAttention"},
    "ai.onnx.preview.training": {"training changes every weight": "Adagrad Adam Gradient Momentum"},
    "": _STANDARD,
    MICROSOFT: _MICROSOFT,
}


def _refusal(why: str) -> Callable[[Step], None]:
    return lambda s: s.refuse(why, tell=any(tensor.name for tensor in s.node.inputs))


for _domain, _table in _OTHER.items():
    for _why, _ops in _table.items():
        rule(*_ops.split(), domain=_domain)(_refusal(_why))
