import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite import Context
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.tidy import AbsorbConstants, FoldBatchNorm
from tests.passes.tidy.cases import Case, floats, tidied, verify

IMAGE: list[int | str] = ["N", 6, 8, 8]


def transposed_conv(b: Builder, x: gs.Tensor, group: int = 1) -> gs.Variable:
    return b.op(
        "ConvTranspose", x, b.weight(6, 4, 3, 3), b.constant(floats(4 * group)), group=group, strides=[2, 2]
    )


def matmul(b: Builder, x: gs.Tensor, out: int = 5, into: int = 6) -> gs.Variable:
    return b.op("MatMul", x, b.weight(into, out))


def affine(b: Builder, op: str, x: gs.Tensor, *shape: int, first: bool = False) -> gs.Variable:
    c = b.constant(floats(*shape))
    return b.op(op, c, x) if first else b.op(op, x, c)


NORMS = [
    Case("Conv, norm", lambda b: b.batchnorm(b.conv(b.input(IMAGE), 4, 6), 4), "Conv"),
    Case(
        "Conv without bias, norm", lambda b: b.batchnorm(b.conv(b.input(IMAGE), 4, 6, bias=False), 4), "Conv"
    ),
    Case("grouped Conv, norm", lambda b: b.batchnorm(b.conv(b.input(IMAGE), 4, 6, group=2), 4), "Conv"),
    Case("depthwise Conv, norm", lambda b: b.batchnorm(b.conv(b.input(IMAGE), 6, 6, group=6), 6), "Conv"),
    Case(
        "Conv over one axis, norm",
        lambda b: b.batchnorm(b.conv(b.input(["N", 6, 9]), 4, 6, kernel=[3]), 4),
        "Conv",
    ),
    Case(
        "ConvTranspose, norm", lambda b: b.batchnorm(transposed_conv(b, b.input(IMAGE)), 4), "ConvTranspose"
    ),
    Case(
        "grouped ConvTranspose, norm",
        lambda b: b.batchnorm(transposed_conv(b, b.input(IMAGE), 2), 8),
        "ConvTranspose",
    ),
    Case("Gemm, norm", lambda b: b.batchnorm(b.linear(b.input(["N", 6]), 5, 6), 5), "Gemm"),
    Case(
        "Gemm stored the other way, norm",
        lambda b: b.batchnorm(b.op("Gemm", b.input(["N", 6]), b.weight(6, 5), alpha=0.5), 5),
        "Gemm",
    ),
    Case(
        "Gemm with factors, norm",
        lambda b: b.batchnorm(
            b.op("Gemm", b.input(["N", 6]), b.weight(6, 5), b.constant(floats(5)), alpha=0.5, beta=2.0), 5
        ),
        "Gemm",
    ),
    Case(
        "MatMul and bias, norm",
        lambda b: b.batchnorm(b.add(matmul(b, b.input(["N", 6])), b.constant(floats(5))), 5),
        "Add MatMul",
    ),
    Case("norm, Conv without padding", lambda b: b.conv(b.batchnorm(b.input(IMAGE), 6), 4, 6, pad=0), "Conv"),
    Case(
        "norm, grouped Conv without padding",
        lambda b: b.conv(b.batchnorm(b.input(IMAGE), 6), 4, 6, group=2, pad=0),
        "Conv",
    ),
    Case(
        "norm, Conv of single pixels",
        lambda b: b.conv(b.batchnorm(b.input(IMAGE), 6), 4, 6, kernel=1, bias=False),
        "Conv",
    ),
    Case("norm, Gemm", lambda b: b.linear(b.batchnorm(b.input(["N", 6]), 6), 5, 6), "Gemm"),
    Case(
        "norm read by two Gemms",
        lambda b: (lambda y: [b.linear(y, 5, 6), b.linear(y, 3, 6)])(b.batchnorm(b.input(["N", 6]), 6)),
        "Gemm Gemm",
    ),
    Case("two norms", lambda b: b.batchnorm(b.batchnorm(b.conv(b.input(IMAGE), 4, 6), 4), 4), "Conv"),
]


@pytest.mark.parametrize("case", NORMS, ids=str)
def test_a_norm_is_folded(case: Case) -> None:
    verify(case, FoldBatchNorm())


NORMS_KEPT = [
    Case(
        "norm, Conv with padding",
        lambda b: b.conv(b.batchnorm(b.input(IMAGE), 6), 4, 6),
        "BatchNormalization Conv",
    ),
    Case(
        "norm, Relu, Conv",
        lambda b: b.conv(b.relu(b.batchnorm(b.input(IMAGE), 6)), 4, 6, pad=0),
        "BatchNormalization Conv Relu",
    ),
    Case(
        "norm, ConvTranspose",
        lambda b: transposed_conv(b, b.batchnorm(b.input(IMAGE), 6)),
        "BatchNormalization ConvTranspose",
    ),
    Case(
        "Conv also read by something else, norm",
        lambda b: (lambda y: [b.batchnorm(y, 4), b.relu(y)])(b.conv(b.input(IMAGE), 4, 6)),
        "BatchNormalization Conv Relu",
    ),
    Case(
        "Conv that is an output, norm",
        lambda b: (lambda y: [b.batchnorm(y, 4), y])(b.conv(b.input(IMAGE), 4, 6)),
        "BatchNormalization Conv",
    ),
    Case(
        "norm also read by something else, Conv",
        lambda b: (lambda y: [b.conv(y, 4, 6, pad=0), b.relu(y)])(b.batchnorm(b.input(IMAGE), 6)),
        "BatchNormalization Conv Relu",
    ),
    Case(
        "MatMul without bias, norm",
        lambda b: b.batchnorm(matmul(b, b.input(["N", 6])), 5),
        "BatchNormalization MatMul",
    ),
    Case(
        "MatMul over the last of three axes, norm",
        lambda b: b.batchnorm(matmul(b, b.input(["N", 5, 6])), 5),
        "BatchNormalization MatMul",
    ),
    Case(
        "Conv with computed weight, norm",
        lambda b: b.batchnorm(b.op("Conv", b.input(IMAGE), b.input([4, 6, 3, 3])), 4),
        "BatchNormalization Conv",
    ),
]


@pytest.mark.parametrize("case", NORMS_KEPT, ids=str)
def test_a_norm_that_cannot_be_folded_exactly_stays(case: Case) -> None:
    outcome = tidied(case.model(), FoldBatchNorm())
    assert not outcome.changed


def test_a_norm_in_training_mode_stays() -> None:
    def draw(b: Builder) -> gs.Tensor:
        y = b.conv(b.input([2, 6, 8, 8]), 4, 6)
        tensors = [b.constant(floats(4, seed=seed)) for seed in range(4)]
        return b.op_all("BatchNormalization", y, *tensors, outputs=3, training_mode=1)[0]

    assert not tidied(Case("", draw, "").model(), FoldBatchNorm()).changed


def test_a_refusal_says_why() -> None:
    case = next(case for case in NORMS_KEPT if case.name.startswith("Conv also"))
    notes = tidied(case.model(), FoldBatchNorm()).notes
    assert [note.kind for note in notes] == ["skipped"] and "other readers" in notes[0].text


def test_a_large_shared_weight_is_not_copied() -> None:
    def draw(b: Builder) -> gs.Tensor:
        x, w = b.input(IMAGE), b.weight(4, 6, 3, 3)
        return [b.batchnorm(b.op("Conv", x, w), 4), b.op("Conv", b.relu(x), w)]

    model = Case("", draw, "").model()
    outcome = tidied(model, FoldBatchNorm(max_copy_bytes=100))
    assert not outcome.changed and "would be copied" in outcome.notes[0].text
    assert sorted(n.op for n in tidied(model, FoldBatchNorm()).model.graph.nodes) == ["Conv", "Conv", "Relu"]


def test_the_new_weight_says_where_it_comes_from() -> None:
    case = Case("", lambda b: b.batchnorm(b.conv(b.input(IMAGE), 4, 6), 4), "")
    model = case.model()
    old = model.nodes("Conv")[0].inputs[1].name
    result = FoldBatchNorm().run(model, Context()).model
    assert result.origin[result.nodes("Conv")[0].inputs[1].name] == (old, "BatchNormalization folded in")


def test_the_folded_numbers_are_those_of_the_formula() -> None:
    case = Case("", lambda b: b.batchnorm(b.conv(b.input(IMAGE), 4, 6), 4), "")
    model = case.model()
    conv, norm = model.graph.nodes
    weight, bias = (np.asarray(t.values, dtype=np.float64) for t in list(conv.inputs)[1:])
    gain, offset, mean, variance = (np.asarray(t.values, dtype=np.float64) for t in list(norm.inputs)[1:])
    result = FoldBatchNorm().run(model.clone(), Context()).model
    found = list(result.nodes("Conv")[0].inputs)
    for channel in range(4):  # one channel at a time, as slow as it is plain
        factor = gain[channel] / np.sqrt(variance[channel] + 1e-5)
        np.testing.assert_allclose(found[1].values[channel], weight[channel] * factor, rtol=1e-6)
        expected = (bias[channel] - mean[channel]) * factor + offset[channel]
        np.testing.assert_allclose(found[2].values[channel], expected, rtol=1e-6)


def test_half_precision_weights_stay_half_and_in_range() -> None:
    def draw(b: Builder) -> gs.Tensor:
        x = b.input(["N", 2, 4, 4], dtype=np.float16)
        y = b.op("Conv", x, b.constant(np.full((2, 2, 1, 1), 1000, np.float16)))
        return b.op("Mul", y, b.constant(np.full((2, 1, 1), 1000, np.float16)))

    model = Case("", draw, "", dtypes=(np.float16,)).model()
    outcome = AbsorbConstants().run(model, Context())
    assert not outcome.changed and "range of float16" in outcome.notes[0].text


CONSTANTS = [
    Case("Conv, Mul", lambda b: affine(b, "Mul", b.conv(b.input(IMAGE), 4, 6), 4, 1, 1), "Conv"),
    Case(
        "Conv, Mul by one number",
        lambda b: affine(b, "Mul", b.conv(b.input(IMAGE), 4, 6), first=True),
        "Conv",
    ),
    Case("Conv, Div", lambda b: affine(b, "Div", b.conv(b.input(IMAGE), 4, 6), 1, 4, 1, 1), "Conv"),
    Case(
        "Conv without bias, Add",
        lambda b: affine(b, "Add", b.conv(b.input(IMAGE), 4, 6, bias=False), 4, 1, 1),
        "Conv",
    ),
    Case("Conv, Sub", lambda b: affine(b, "Sub", b.conv(b.input(IMAGE), 4, 6), 4, 1, 1), "Conv"),
    Case(
        "Conv, Sub from",
        lambda b: affine(b, "Sub", b.conv(b.input(IMAGE), 4, 6), 4, 1, 1, first=True),
        "Conv",
    ),
    Case("Mul, padded Conv", lambda b: b.conv(affine(b, "Mul", b.input(IMAGE), 6, 1, 1), 4, 6), "Conv"),
    Case(
        "Sub, Div, Conv without padding",
        lambda b: b.conv(affine(b, "Div", affine(b, "Sub", b.input(IMAGE), 6, 1, 1), 6, 1, 1), 4, 6, pad=0),
        "Conv",
    ),
    Case("MatMul, Mul", lambda b: affine(b, "Mul", matmul(b, b.input(["N", 7, 6])), 5), "MatMul"),
    Case(
        "Mul, Add, three MatMuls with bias",
        lambda b: (lambda y: [b.add(matmul(b, y, out), b.constant(floats(out))) for out in (5, 4, 3)])(
            affine(b, "Add", affine(b, "Mul", b.input(["N", 7, 6]), 6), 6)
        ),
        "Add Add Add MatMul MatMul MatMul",
    ),
    Case(
        "LayerNormalization, Mul, Add",
        lambda b: affine(
            b,
            "Add",
            affine(b, "Mul", b.op("LayerNormalization", b.input(["N", 7, 6]), b.constant(floats(6))), 6),
            6,
        ),
        "LayerNormalization",
    ),
    Case(
        "InstanceNormalization, Mul",
        lambda b: affine(
            b,
            "Mul",
            b.op("InstanceNormalization", b.input(IMAGE), b.constant(floats(6)), b.constant(floats(6))),
            6,
            1,
            1,
        ),
        "InstanceNormalization",
    ),
    Case(
        "norm, Mul, Add",
        lambda b: affine(
            b, "Add", affine(b, "Mul", b.relu(b.batchnorm(b.input(IMAGE), 6)), 6, 1, 1), 6, 1, 1
        ),
        "Add BatchNormalization Mul Relu",
    ),
    Case(
        "norm, Mul",
        lambda b: affine(b, "Mul", b.batchnorm(b.relu(b.input(IMAGE)), 6), 6, 1, 1),
        "BatchNormalization Relu",
    ),
    Case("Mul, Mul", lambda b: affine(b, "Mul", affine(b, "Mul", b.input(IMAGE), 6, 1, 1), 1), "Mul"),
    Case("Mul, Div", lambda b: affine(b, "Div", affine(b, "Mul", b.input(IMAGE), 6, 1, 1)), "Mul"),
    Case("Add, Sub", lambda b: affine(b, "Sub", affine(b, "Add", b.input(IMAGE), 8), 8), "Add"),
]


@pytest.mark.parametrize("case", CONSTANTS, ids=str)
def test_constants_are_folded(case: Case) -> None:
    verify(case, AbsorbConstants())


CONSTANTS_KEPT = [
    Case(
        "Conv, Mul along the width", lambda b: affine(b, "Mul", b.conv(b.input(IMAGE), 4, 6), 8), "Conv Mul"
    ),
    Case(
        "Conv, Mul that adds an axis",
        lambda b: affine(b, "Mul", b.conv(b.input(IMAGE), 4, 6), 1, 1, 4, 1, 1),
        "Conv Mul",
    ),
    Case(
        "one Conv output channel, Mul that widens",
        lambda b: affine(b, "Mul", b.conv(b.input(IMAGE), 1, 6), 5, 1, 1),
        "Conv Mul",
    ),
    Case("Add, padded Conv", lambda b: b.conv(affine(b, "Add", b.input(IMAGE), 6, 1, 1), 4, 6), "Add Conv"),
    Case(
        "over a Conv",
        lambda b: affine(b, "Div", b.conv(b.input(IMAGE), 4, 6), 4, 1, 1, first=True),
        "Conv Div",
    ),
    Case("MatMul, Add", lambda b: affine(b, "Add", matmul(b, b.input(["N", 7, 6])), 5), "Add MatMul"),
    Case(
        "whole numbers, Div of Mul",
        lambda b: b.op(
            "Div", b.op("Mul", b.input([5], dtype=np.int64), b.constant(np.int64(3))), b.constant(np.int64(2))
        ),
        "Div Mul",
        dtypes=(np.int64,),
    ),
    Case(
        "vectors along different axes",
        lambda b: affine(b, "Mul", affine(b, "Mul", b.input([4, 5]), 4, 1), 5),
        "Mul Mul",
    ),
    Case(
        "LayerNormalization, Mul along another axis",
        lambda b: affine(
            b, "Mul", b.op("LayerNormalization", b.input(["N", 7, 6]), b.constant(floats(6))), 7, 1
        ),
        "LayerNormalization Mul",
    ),
]


@pytest.mark.parametrize("case", CONSTANTS_KEPT, ids=str)
def test_constants_that_mean_something_else_stay(case: Case) -> None:
    outcome = tidied(case.model(), AbsorbConstants())
    assert not outcome.changed
    assert sorted(node.op for node in outcome.model.graph.nodes) == case.after.split()


def number(b: Builder, value: float) -> gs.Constant:
    return b.constant(np.array(value, np.float32))


@pytest.mark.parametrize("curve", ["Erf", "Tanh"])
def test_the_half_of_a_gelu_stays_with_it(curve: str) -> None:
    def net(factor: float) -> Model:
        b = Builder(seed=0, opset=17)
        x = matmul(b, b.input(["N", 6], "x"))
        inner = b.op(curve, b.op("Div", x, number(b, 1.4142135)))
        risen = b.op("Add", inner, number(b, 1.0))
        half = b.op("Mul", b.op("Mul", x, risen), number(b, factor))
        return b.model(matmul(b, half, 4, 5))

    kept, taken = (tidied(net(factor), AbsorbConstants()).model for factor in (0.5, 0.25))
    assert len(kept.nodes("Mul")) == 2 and len(taken.nodes("Mul")) == 1
