"""Factors moved from activations into weights: floats stay the same, and loud channels no longer drown the others."""

from collections.abc import Callable
from math import inf

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.match import Draft
from graphrewrite.passes.quant import InsertQdq, SmoothQuant, factors
from graphrewrite.passes.quant.factors import Reader
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.pipeline import Context, Pass, Pipeline, PipelineResult
from graphrewrite.pipeline.quality import quality

WIDTH = 16


def samples(shape: tuple[int, ...], seed: int = 0) -> ArraySource:
    return ArraySource({"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)})


def smoothed(model: Model, data: ArraySource, step: SmoothQuant | None = None) -> PipelineResult:
    return Pipeline((step or SmoothQuant(gain=-inf),)).run(model, Context(data=data))


def done(result: PipelineResult) -> list[str]:
    return [note.subject for note in result.notes if note.kind == "done"]


def left(result: PipelineResult) -> dict[str, str]:
    return {note.subject: note.text for note in result.notes if note.kind == "skipped"}


def block(loud: float) -> Model:
    """A transformer block; three channels of each norm are so many times as loud, and read by weights as small."""
    b = Builder(opset=17, seed=4)
    x = b.input(["N", 6, WIDTH], "x")
    gain = np.ones(WIDTH, np.float32)
    gain[[2, 7, 11]] = loud

    def norm(y: gs.Tensor) -> gs.Variable:
        return b.op("LayerNormalization", y, b.constant(gain), b.constant(np.zeros(WIDTH, np.float32)))

    def product(y: gs.Tensor, read: Array, out: int = WIDTH) -> gs.Variable:
        weight = b.rng.standard_normal((len(read), out)) / np.sqrt(len(read)) / read[:, None]
        return b.op("MatMul", y, b.constant(weight.astype(np.float32)))

    inner = norm(x)
    q, k, v = (product(inner, gain) for _ in range(3))
    scores = b.op("Softmax", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 1])), axis=-1)
    plain = np.ones(WIDTH, np.float32)
    stream = b.add(x, product(b.op("MatMul", scores, v), plain))
    hidden = b.relu(product(norm(stream), gain, 4 * WIDTH))
    return b.model(b.add(stream, product(hidden, np.ones(4 * WIDTH, np.float32))))


def signal(model: Model, *steps: Pass) -> float:
    """Return the signal to noise of a model after steps and 8 bits, in dB, on samples nobody has seen."""
    context = Context(data=samples((64, 6, WIDTH)))
    result = Pipeline((*steps, InsertQdq())).run(model, context).model
    return quality(model, result, samples((64, 6, WIDTH), seed=1).batches(64)).agreement[0].snr


def test_a_transformer_with_loud_channels_keeps_its_signal_in_8_bits() -> None:
    alone = signal(block(100.0))

    assert alone < 15
    for step in (SmoothQuant(), SmoothQuant(alphas=(0.25, 0.5, 0.75))):
        assert signal(block(100.0), step) > alone + 15


def test_factors_are_those_of_the_equation_for_all_readers_together() -> None:
    b = Builder(opset=17)
    x = b.input(["N", 3], "x")
    wide = b.op("Mul", x, b.constant(np.array([1, 4, 2], np.float32)), name="wide")
    one = b.op("MatMul", wide, b.constant(np.array([[1, 0], [0.25, 0.125], [0, 0]], np.float32)))
    two = b.op("Gemm", wide, b.constant(np.array([[-1, -0.0625, 0]], np.float32)), transB=1)
    data = ArraySource({"x": np.array([[1, -1, 1], [-0.5, 1, 0]], np.float32)})

    result = smoothed(b.model(one, two), data)

    # Inputs reach 1, 4, 2; weights 1, 1/4, 0: the factors are 1, sqrt(4 * 4) = 4, and 1 where no weight is.
    mul, matmul, gemm = result.model.graph.nodes
    np.testing.assert_array_equal(mul.inputs[1].values, [1, 1, 2])
    np.testing.assert_array_equal(matmul.inputs[1].values, [[1, 0], [1, 0.5], [0, 0]])
    np.testing.assert_array_equal(gemm.inputs[1].values, [[-1, -0.25, 0]])
    assert result.report.steps[-1].verified.how == "same"


def vector(b: Builder, *shape: int) -> gs.Constant:
    return b.constant((0.5 + b.rng.random(shape)).astype(np.float32))


def ones_around(b: Builder, channels: int) -> list[gs.Constant]:
    return [vector(b, channels) for _ in range(4)]


MAKERS: dict[str, tuple[int, Callable[[Builder, gs.Tensor], gs.Tensor]]] = {
    "gemm": (2, lambda b, x: b.op("Gemm", x, b.weight(5, 4), vector(b, 5), transB=1, alpha=0.5, beta=2.0)),
    "product and sum": (2, lambda b, x: b.op("Add", vector(b, 5), b.op("MatMul", x, b.weight(4, 5)))),
    "relu": (2, lambda b, x: b.op("LeakyRelu", b.relu(b.op("MatMul", x, b.weight(4, 5))))),
    "rest of a norm": (2, lambda b, x: b.op("Sub", b.op("Div", x, vector(b, 4)), vector(b, 4))),
    "from a constant": (2, lambda b, x: b.op("Sub", vector(b, 4), b.op("Mul", x, b.constant(np.float32(3))))),
    "gate": (2, lambda b, x: b.op("Mul", b.op("Sigmoid", x), b.op("MatMul", x, b.weight(4, 4)))),
    "both of a sum": (
        2,
        lambda b, x: b.op("Add", b.op("MatMul", x, b.weight(4, 5)), b.op("MatMul", x, b.weight(4, 5))),
    ),
    "layer norm": (2, lambda b, x: b.op("LayerNormalization", x, vector(b, 4), vector(b, 4))),
    "rms norm": (2, lambda b, x: b.op("RMSNormalization", x, vector(b, 4))),
    "convolution": (4, lambda b, x: b.op("MaxPool", b.relu(b.conv(x, 6, 4)), kernel_shape=[2, 2])),
    "depthwise": (4, lambda b, x: b.relu(b.conv(x, 8, 4, group=4))),
    "transposed": (4, lambda b, x: b.op("ConvTranspose", x, b.weight(4, 3, 2, 2), vector(b, 6), group=2)),
    "batch norm": (4, lambda b, x: b.op("BatchNormalization", x, *ones_around(b, 4))),
    "instance norm": (4, lambda b, x: b.op("InstanceNormalization", x, vector(b, 4), vector(b, 4))),
}


@pytest.mark.parametrize("name", MAKERS)
def test_whatever_can_give_divided_channels_does(name: str) -> None:
    rank, made = MAKERS[name]
    b = Builder(opset=23, seed=6, ir_version=11)
    shape = (4, 6, 6)[: rank - 1]
    x = b.input(["N", *shape], "x")
    y = made(b, x)
    y.name = "here"
    width = {"convolution": 6, "depthwise": 8, "transposed": 6}.get(name, 5 if name in _FIVE else 4)
    if rank == 2:
        model = b.model(b.op("MatMul", y, b.weight(width, 3)), b.op("Gemm", y, b.weight(3, width), transB=1))
    else:
        model = b.model(b.conv(y, 4, width, group=2), b.op("ConvTranspose", y, b.weight(width, 2, 2, 2)))

    result = smoothed(model, samples((32, *shape)))

    assert done(result) == ["here"] and result.report.steps[-1].verified.how == "same"


_FIVE = ("gemm", "product and sum", "relu", "both of a sum")

BLOCKS: dict[str, tuple[str, Callable[[Builder, gs.Tensor], gs.Tensor]]] = {
    "erf": ("Erf stands before it", lambda b, x: b.op("Erf", b.op("MatMul", x, b.weight(4, 4)))),
    "bound": ("Clip stands before it", lambda b, x: b.op("Clip", x, b.constant(np.float32(0)))),
    "view": ("Reshape stands before it", lambda b, x: b.op("Reshape", x, b.constant(np.array([-1, 4])))),
    "square": ("a tensor with itself", lambda b, x: b.op("Mul", *[b.op("MatMul", x, b.weight(4, 4))] * 2)),
    "input": ("is an input of the model", lambda b, x: x),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_what_no_factor_passes_is_named(name: str) -> None:
    why, made = BLOCKS[name]
    b = Builder(opset=17, seed=6)
    y = made(b, b.input(["N", 4], "x"))
    model = b.model(b.op("MatMul", y, b.weight(4, 3)))
    data = samples((8, 4))

    assert why in left(smoothed(model, data))[y.name]
    inserted = smoothed(model, data, SmoothQuant(gain=-inf, inserts=True))
    assert y.name in done(inserted) and inserted.report.steps[-1].verified.how == "same"
    assert len(inserted.model.nodes("Mul")) == len(model.nodes("Mul")) + len(done(inserted))


def test_a_reader_that_cannot_make_up_for_it_keeps_a_tensor_as_it_is() -> None:
    b = Builder(opset=17, seed=6)
    y = b.op("LayerNormalization", b.input(["N", 4], "x"), vector(b, 4), vector(b, 4), name="norm")
    product = b.op("MatMul", y, b.weight(4, 4))
    other = b.op("Add", y, product, name="residual")

    result = smoothed(b.model(other), samples((8, 4)))

    assert not result.changed and "Add 'residual' reads it too" in left(result)[y.name]


def test_a_reader_of_sizes_alone_is_none() -> None:
    b = Builder(opset=17, seed=6)
    y = b.op("LayerNormalization", b.input(["N", 4], "x"), vector(b, 4), vector(b, 4))
    flat = b.op("Reshape", b.op("MatMul", y, b.weight(4, 4)), b.op("Shape", y))
    assert smoothed(b.model(flat), samples((8, 4))).changed


def test_of_several_alphas_none_is_taken_where_none_helps() -> None:
    b = Builder(opset=17, seed=6)
    x = b.input(["N", 64], "x")
    y = b.op("Mul", x, b.constant(np.ones(64, np.float32)))
    rows = (
        b.rng.standard_normal((64, 8)) * np.logspace(-2, 0, 64)[:, None]
    )  # what is read little may be rounded coarsely
    model = b.model(b.op("MatMul", y, b.constant(rows.astype(np.float32))))

    result = smoothed(model, samples((256, 64)), SmoothQuant(alphas=(1.0, 0.9)))

    assert not result.changed and "no alpha brings its products 1 dB nearer" in left(result)[y.name]


@pytest.mark.parametrize("count", [64, 256])
def test_a_quiet_transformer_is_left_alone(count: int) -> None:
    data = samples((count, 6, WIDTH))

    assert not smoothed(block(1.0), data, SmoothQuant(alphas=(0.25, 0.5, 0.75))).changed
    assert smoothed(block(3.0), data, SmoothQuant(alphas=(0.25, 0.5, 0.75))).changed


def test_products_that_come_nearer_are_left_where_the_outputs_do_not() -> None:
    b = Builder(opset=17, seed=4)
    x = b.input(["N", WIDTH], "x")
    loud = np.ones(WIDTH, np.float32)
    loud[3] = 100
    y = b.op("Mul", x, b.constant(loud), name="here")
    product = b.op(
        "MatMul", y, b.constant((b.rng.standard_normal((WIDTH, 4)) / loud[:, None]).astype(np.float32))
    )
    unheard = b.op("Mul", product, b.constant(np.float32(1e-6)))
    plain = b.op("MatMul", x, b.weight(WIDTH, 4))

    data = samples((64, WIDTH))
    quiet = smoothed(b.model(b.add(plain, unheard)), data, SmoothQuant())
    heard = smoothed(b.model(b.add(plain, product)), data, SmoothQuant())

    assert not quiet.changed and "do not come 1 dB nearer" in left(quiet)[y.name]
    assert done(heard) == [y.name]


def test_what_is_not_rounded_is_not_smoothed() -> None:
    step = SmoothQuant(step=InsertQdq(activations="uint8", only=("none_other",)))
    b = Builder(opset=17, seed=6)
    y = b.op("Mul", b.input(["N", 4], "x"), vector(b, 4))
    model = b.model(b.op("MatMul", b.op("MatMul", y, b.weight(4, 4)), b.weight(4, 4), name="none_other"))

    assert "no layer that reads it is rounded" in left(smoothed(model, samples((8, 4)), step))[y.name]


def test_a_weight_that_does_not_make_up_for_its_inputs_breaks_the_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Reader.multiply

    def wrong(self: Reader, draft: Draft, given: Floats) -> None:
        right(self, draft, given * np.where(np.arange(len(given)) == 3, 1.01, 1.0))

    monkeypatch.setattr(factors.Reader, "multiply", wrong)
    with pytest.raises(VerificationError):
        smoothed(block(10.0), samples((16, 6, WIDTH)))


@pytest.mark.parametrize(
    "fields", [{"alphas": ()}, {"alphas": (1.5,)}, {"rows": 0}, {"batch": 0}, {"gain": inf}]
)
def test_impossible_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig, match=r"SmoothQuant\.\w+ is"):
        SmoothQuant(**fields)  # type: ignore[arg-type]


def test_samples_are_asked_for() -> None:
    with pytest.raises(InvalidConfig, match="there is no data"):
        Pipeline((SmoothQuant(),)).run(block(10.0))
