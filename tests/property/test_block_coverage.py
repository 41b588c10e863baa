"""Every dimension rule is met by some block of the random graphs, or is listed here with the reason why not."""

import inspect

from graphrewrite.dims import record
from graphrewrite.dims.rules import refused
from graphrewrite.ir.edit import all_graphs
from tests.support.blocks import blocks
from tests.support.drawing import Style, Unfit
from tests.support.graphs import OPSETS, drawn

MS, ML = "com.microsoft", "ai.onnx.ml"
# Reason -> domain -> operators.
NOT_DRAWN: dict[str, dict[str, str]] = {
    "it draws numbers, so two runs are not to be compared": {
        "": "Bernoulli Multinomial RandomNormalLike RandomUniformLike"
    },
    "what comes out has a length that depends on contents": {"": "Compress NonMaxSuppression NonZero Unique"},
    "bodies have random graphs of their own (test_bodies.py)": {"": "If Loop Scan"},
    "an optional is passed between bodies and functions only": {
        "": "Optional OptionalGetElement OptionalHasElement"
    },
    "classic models end in scores; they have cases of their own (test_rules_ml.py)": {
        ML: "ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer "
        "LabelEncoder LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler "
        "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap"
    },
    "a blocked layout is refused": {
        "com.microsoft.nchwc": "AveragePool Conv GlobalAveragePool GlobalMaxPool MaxPool ReorderInput ReorderOutput "
        "Upsample"
    },
    "quantized forms have cases of their own (test_rules_quantized.py)": {
        "": "QLinearConv QLinearMatMul",
        MS: "DynamicQuantizeLSTM NhwcMaxPool QAttention QEmbedLayerNormalization QGemm QLinearAveragePool "
        "QLinearConv QLinearGlobalAveragePool QLinearSoftmax QLinearWhere",
    },
    "it is the first, or takes the place of the last, operator of a model (cases in test_rules_contrib.py)": {
        MS: "EmbedLayerNormalization RelativePositionBias"
    },
    "the same rule as an operator that is drawn": {
        "": "ArgMin Scatter Upsample Size Swish EyeLike",
        MS: "TransposeMatMul SimplifiedLayerNormalization Inverse MatMulBnb4 NhwcFusedConv "
        "DecoderMaskedMultiHeadAttention",
    },
    "refused whole": {MS: "QMoE"},
    "it gives no numbers to go on with": {"": "SequenceLength MaxRoiPool"},
    "onnxruntime has no kernel for it yet": {"": "SwiGLU BitCast CumProd"},
}


def test_every_rule_is_drawn_or_listed() -> None:
    ruled = {key for key, rule in record.rules.items() if inspect.getmodule(rule) is not refused}
    listed = {
        (domain, name)
        for table in NOT_DRAWN.values()
        for domain, names in table.items()
        for name in names.split()
    }
    met: set[tuple[str, str]] = set()
    for name, block in blocks.items():
        opsets = [opset for opset in OPSETS if block.since <= opset <= block.until]
        for seed in range(16):
            style = Style(opsets[-1 - seed % len(opsets)], bool(seed % 2), 0.2, 0.3, seed)
            try:
                model = drawn([name], seed, style)
            except Unfit:
                continue
            met |= {(node.domain or "", node.op) for graph in all_graphs(model.graph) for node in graph.nodes}

    assert ruled - met - listed == set()
    assert listed - ruled == set()
