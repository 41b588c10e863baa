"""Lowering of int8 layers with zeros in blocks of 16 x 4: what is recognised, what it becomes, what stays and why."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import pytest

from graphrewrite import cost
from graphrewrite.custom_ops.quads import Quads, pack
from graphrewrite.custom_ops.quads.sample import sparse_weight
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.sparse.lower_q_block_sparse import LowerQBlockSparse
from graphrewrite.passes.sparse.quantised_conv import too_large
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run

Floats = npt.NDArray[np.float64]

ALWAYS = LowerQBlockSparse(when="always")


def lowered(model: Model, step: LowerQBlockSparse = ALWAYS) -> Model:
    """Lower in a pipeline, which checks the claim by running both sides."""
    return Pipeline([step]).run(model, Context(seed=1)).model


def reasons(model: Model, step: LowerQBlockSparse = ALWAYS) -> list[str]:
    before = [node.op for node in model.nodes()]
    outcome = step.run(model.clone(), Context())
    assert not outcome.changed
    assert [node.op for node in model.nodes()] == before
    return [note.text for note in outcome.notes]


def ops(model: Model) -> list[str]:
    return sorted(node.op for node in model.nodes())


def both(one: Model, other: Model, x: Array) -> tuple[Floats, Floats]:
    """Run two models on the same input and return their one output."""
    (wanted,), (got,) = run(one, {"x": x}).values(), run(other, {"x": x}).values()
    return wanted.astype(np.float64), got.astype(np.float64)


class Drawing:
    """Layers between quantisers, of bytes of one type."""

    def __init__(self, zero: np.generic, channels: int = 8, seed: int = 5) -> None:
        self.b = Builder(opset=17, seed=seed)
        self.zero = zero
        self.channels = channels
        self.x = self.b.input(["N", channels, 9, 10], "x")

    def steps(self, step: float, zero: int | None = None) -> tuple[gs.Tensor, gs.Tensor]:
        kind = self.zero.dtype
        number = int(self.zero) if zero is None else zero
        return self.b.constant(np.array(step, np.float32)), self.b.constant(np.array(number, kind))

    def through(self, x: gs.Tensor, step: float = 0.03, zero: int | None = None) -> gs.Tensor:
        scale, point = self.steps(step, zero)
        return self.b.op("DequantizeLinear", self.b.op("QuantizeLinear", x, scale, point), scale, point)

    def weight(self, outputs: int, inputs: int, sparsity: float = 0.6, zero: int = 0) -> gs.Tensor:
        values = sparse_weight(self.b.rng, (outputs, inputs, 3, 3), sparsity)
        steps = self.b.rng.uniform(0.001, 0.002, outputs).astype(np.float32)
        zeros = self.b.constant(np.full(outputs, zero, np.int8))
        return self.b.op("DequantizeLinear", self.b.constant(values), self.b.constant(steps), zeros, axis=0)

    def bias(self, outputs: int) -> gs.Tensor:
        return self.b.constant(self.b.rng.standard_normal(outputs).astype(np.float32))

    def conv(
        self, x: gs.Tensor, outputs: int, sparsity: float = 0.6, strides: Sequence[int] = (1, 1)
    ) -> gs.Tensor:
        weight = self.weight(outputs, self.channels, sparsity)
        return self.b.op("Conv", x, weight, self.bias(outputs), pads=[1, 1, 1, 1], strides=list(strides))


def between_quantisers(zero: np.generic, activation: str = "", y_zero: int | None = None) -> Model:
    """One convolution between quantisers."""
    d = Drawing(zero)
    y = d.conv(d.through(d.x), 20, strides=[2, 1])
    if activation:
        y = d.b.op(activation, y)
    return d.b.model(d.through(y, 0.05, y_zero))


def test_a_convolution_between_quantisers_becomes_one_operator() -> None:
    model = between_quantisers(np.uint8(120))

    after = lowered(model)

    assert ops(after) == ["DequantizeLinear", "QBlockSparseConv", "QuantizeLinear"]
    (node,) = after.nodes("QBlockSparseConv")
    assert node.attrs["strides"] == [2, 1] and node.attrs["pads"] == [1, 1, 1, 1]
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, 8, 9, 10)).astype(np.float32)
        wanted, got = both(model, after, x)
        steps = np.abs(wanted - got) / 0.05
        assert steps.max() < 1.01  # one step, where a sum lies between two
        assert (steps > 0.5).mean() < 0.01
        assert np.unique(np.round(got / 0.05)).size > 50


def test_int8_activations_become_uint8() -> None:
    model = between_quantisers(np.int8(-7))

    after = lowered(model)

    assert ops(after) == ["DequantizeLinear", "QBlockSparseConv", "QuantizeLinear"]
    zeros = [after.weights[node.inputs[2].name] for node in after.nodes("QuantizeLinear", "DequantizeLinear")]
    assert [(zero.dtype.name, int(zero)) for zero in zeros] == [("uint8", 121)] * 2
    x = np.random.default_rng(0).standard_normal((2, 8, 9, 10)).astype(np.float32)
    wanted, got = both(model, after, x)
    assert np.abs(wanted - got).max() < 0.051


def test_int8_activations_stay_where_one_cannot_be_turned() -> None:
    d = Drawing(np.int8(0))
    scale, point = d.steps(0.03)
    numbers = d.b.op("QuantizeLinear", d.conv(d.through(d.x), 20), scale, point)

    assert reasons(d.b.model(numbers)) == ["its bytes are int8 and int8; the kernel takes uint8"]


def test_an_activation_that_the_bytes_imply_goes() -> None:
    after = lowered(between_quantisers(np.uint8(120), "Relu", 0))
    assert ops(after) == ["DequantizeLinear", "QBlockSparseConv", "QuantizeLinear"]


def test_an_activation_that_the_bytes_do_not_imply_stays_and_is_told() -> None:
    assert reasons(between_quantisers(np.uint8(120), "Relu", 40)) == [
        "its output's bytes reach down to -2, further than its activation"
    ]
    assert reasons(between_quantisers(np.uint8(120), "HardSwish")) == [
        "its activation is not a range of the output's bytes"
    ]


def test_a_clip_at_the_ends_of_the_bytes_goes_and_another_stays() -> None:
    for high, wanted in ((6.0, 1), (3.0, 0)):
        d = Drawing(np.uint8(120))
        limits = [d.b.constant(np.array(value, np.float32)) for value in (0.0, high)]
        y = d.b.op("Clip", d.conv(d.through(d.x), 20), *limits)
        model = d.b.model(d.through(y, 6.0 / 255, 0))

        assert len(lowered(model).nodes("QBlockSparseConv")) == wanted


def test_dense_layers_and_grouped_ones_stay() -> None:
    d = Drawing(np.uint8(3))
    y = d.through(d.conv(d.through(d.x), 8, sparsity=0.0))
    grouped = d.b.op("Conv", y, d.weight(8, 4), d.bias(8), pads=[1] * 4, group=2)
    told = reasons(d.b.model(d.through(grouped)))

    assert told[0].startswith("1% of its weights and 0% of its blocks of 16 x 4 are zero; 50%")
    assert told[1] == "only convolutions in two dimensions without groups have a kernel"


def test_weights_with_a_zero_point_stay() -> None:
    d = Drawing(np.uint8(3))
    y = d.b.op("Conv", d.through(d.x), d.weight(16, 8, zero=3))
    assert reasons(d.b.model(d.through(y))) == ["its weights have a zero point"]


def test_an_output_that_is_read_elsewhere_too_keeps_its_floats() -> None:
    d = Drawing(np.uint8(3))
    y = d.conv(d.through(d.x), 16)
    model = d.b.model(d.b.add(d.through(y), d.b.op("Sigmoid", y)))
    assert reasons(model) == ["its output is not quantised, or is read elsewhere too"]


def test_sums_that_could_overflow_are_told() -> None:
    """510 * 127 * 33155 is just below 2^31."""
    none = np.zeros(1, np.int32)
    assert too_large(np.full((1, 33155), 127, np.int8), none) == ""
    assert too_large(np.full((1, 33156), 127, np.int8), none) == "its sums could need more than 32 bits"
    assert (
        too_large(np.zeros((1, 5), np.int8), np.array([-(2**31)])) == "its sums could need more than 32 bits"
    )


def test_a_chain_of_quantised_convolutions_keeps_its_bytes() -> None:
    b = Builder(opset=17, seed=3)
    x = b.input(["N", 16, 8, 8], "x", np.uint8)
    scale, zero = b.constant(np.array(0.05, np.float32)), b.constant(np.array(128, np.uint8))
    y = x
    for _ in range(3):
        values = sparse_weight(b.rng, (16, 16, 3, 3), 0.7)
        steps = b.constant(np.full(16, 0.003, np.float32))
        none = b.constant(np.zeros(1, np.int8).reshape(()))
        y = b.op("QLinearConv", y, scale, zero, b.constant(values), steps, none, scale, zero, pads=[1] * 4)
    after = lowered(b.model(y, dtypes=[np.uint8]))

    assert ops(after) == ["QBlockSparseConv"] * 3


def dynamic(rows: int | str = "N", bias: bool = True, activation: str = "") -> Model:
    """A product as onnxruntime's dynamic quantiser writes it."""
    b = Builder(opset=17, seed=2)
    x = b.input([rows, 40], "x")
    weight = np.ascontiguousarray(sparse_weight(b.rng, (32, 40), 0.6).T)
    rounded, scale, zero = b.op_all("DynamicQuantizeLinear", x, outputs=3)
    sums = b.op("MatMulInteger", rounded, b.constant(weight), zero, b.constant(np.array(0, np.int8)))
    step = b.constant(np.array(0.002, np.float32))
    y = b.op("Mul", b.op("Cast", sums, to=1), b.op("Mul", scale, step))
    if bias:
        y = b.op("Add", b.constant(b.rng.standard_normal(32).astype(np.float32)), y)
    return b.model(b.op(activation, y) if activation else y)


@pytest.mark.parametrize("activation", ["", "Relu", "HardSwish"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_of_rounded_rows_becomes_one_operator(bias: bool, activation: str) -> None:
    model = dynamic(1, bias, activation)

    after = lowered(model)

    assert ops(after) == ["QBlockSparseMatMul"]
    x = np.random.default_rng(0).standard_normal((1, 40)).astype(np.float32)
    wanted, got = both(model, after, x)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_several_rows_are_rounded_one_by_one() -> None:
    after = lowered(dynamic())
    x = np.random.default_rng(0).standard_normal((2, 40)).astype(np.float32)
    x[0] *= 1000
    (both,) = run(after, {"x": x}).values()
    (alone,) = run(after, {"x": x[1:]}).values()

    np.testing.assert_array_equal(both[1:], alone)


def test_only_what_is_left_counts_as_work() -> None:
    after = lowered(dynamic(3))
    blocks = after.weights[after.nodes()[0].inputs[1].name]
    assert cost.of(after).total("macs") == len(blocks) * 64 * 3

    after = lowered(between_quantisers(np.uint8(120)))
    (node,) = after.nodes("QBlockSparseConv")
    blocks = after.weights[node.inputs[3].name]
    # A symbolic batch counts as 2; strides 2 and 1 over 9 x 10.
    assert cost.of(after).total("macs") == len(blocks) * 64 * 2 * 5 * 10


def floats(op: str = "Gemm") -> Model:
    b = Builder(opset=17, seed=4)
    x = b.input(["N", 24], "x")
    weight = sparse_weight(b.rng, (32, 24), 0.7).astype(np.float32) * np.float32(0.01)
    if op == "Gemm":
        bias = b.constant(b.rng.standard_normal(32).astype(np.float32))
        y = b.op("Gemm", x, b.constant(weight, "w"), bias, transB=1, alpha=0.5)
    else:
        y = b.op("MatMul", x, b.constant(np.ascontiguousarray(weight.T), "w"))
    return b.model(b.relu(y))


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
def test_products_of_floats_are_rounded_only_when_asked(op: str) -> None:
    assert not ALWAYS.run(floats(op), Context()).changed

    after = lowered(floats(op), LowerQBlockSparse(when="always", round_floats=True))

    assert ops(after) == ["QBlockSparseMatMul"]
    x = np.random.default_rng(0).standard_normal((5, 24)).astype(np.float32)
    wanted, got = both(floats(op), after, x)
    off = np.abs(got - wanted).max() / np.abs(wanted).max()
    assert 1e-6 < off < 0.02  # rounded, and no more than that


def test_a_weight_dequantised_for_a_product_stays_as_it_is() -> None:
    b = Builder(opset=17, seed=4)
    x = b.input(["N", 24], "x")
    values = np.ascontiguousarray(sparse_weight(b.rng, (32, 24), 0.7).T)
    steps = b.constant(b.rng.uniform(0.01, 0.02, 32).astype(np.float32))
    weight = b.op(
        "DequantizeLinear", b.constant(values, "w"), steps, b.constant(np.zeros(32, np.int8)), axis=1
    )
    after = lowered(b.model(b.op("MatMul", x, weight)), LowerQBlockSparse(when="always", round_floats=True))

    (node,) = after.nodes()
    assert node.op == "QBlockSparseMatMul"
    scales: Array = after.weights[node.inputs[3].name]
    assert 0.01 <= float(scales.min()) <= float(scales.max()) <= 0.02


def test_a_broken_lowering_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim's check must fail where a block is lost."""
    from graphrewrite.errors import VerificationError
    from graphrewrite.passes.sparse import q_write

    def lossy(weight: npt.NDArray[np.int8]) -> Quads:
        whole = pack(weight)
        return Quads(whole.blocks[:-1], whole.positions[:-1])

    monkeypatch.setattr(q_write, "pack", lossy)
    with pytest.raises(VerificationError):
        lowered(between_quantisers(np.uint8(120)))


def test_nothing_is_lowered_without_a_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphrewrite.cost.speeds import Point, Speeds, Work
    from graphrewrite.passes.sparse import lower_q_block_sparse as room

    def speeds(sparse: float) -> Speeds:
        work = Work(8, 20, 50, 9)
        points = (Point("QLinearConv", work, 1e-4), Point("QBlockSparseConv", work, sparse))
        return Speeds("avx2", "a machine", "onnxruntime", points)

    model = between_quantisers(np.uint8(120))
    for seconds, changed in ((1e-3, False), (1e-5, True)):
        monkeypatch.setattr(room, "known_speeds", lambda s=seconds: speeds(s))
        outcome = LowerQBlockSparse().run(model.clone(), Context())
        assert outcome.changed == changed
        assert changed or "times as fast on a machine (avx2); it stays dense" in outcome.notes[0].text


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
def test_what_onnxruntimes_quantiser_writes_is_recognised(
    tmp_path: Path, kind: str, per_channel: bool
) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.batches: Iterator[dict[str, Array]] = iter(
                {"x": rng.standard_normal((2, 8, 12, 12)).astype(np.float32)} for _ in range(3)
            )

        def get_next(self) -> dict[str, Array] | None:
            return next(self.batches, None)

    b = Builder(opset=17, seed=7)
    y: gs.Tensor = b.input(["N", 8, 12, 12], "x")
    for outputs, inputs in ((32, 8), (32, 32), (16, 32)):
        mask = sparse_weight(b.rng, (outputs, inputs, 3, 3), 0.7) != 0
        weight = b.rng.standard_normal(mask.shape) * mask / np.sqrt(9 * inputs * 0.3)
        bias = b.constant((b.rng.standard_normal(outputs) * 0.1).astype(np.float32))
        y = b.relu(b.op("Conv", y, b.constant(weight.astype(np.float32)), bias, pads=[1] * 4))
    source, target = tmp_path / "floats.onnx", tmp_path / "bytes.onnx"
    b.model(y).save(source)
    quantize_static(
        source,
        target,
        Reader(),
        per_channel=per_channel,
        activation_type=QuantType[kind],
        weight_type=QuantType.QInt8,
    )
    model = Model.load(target)

    after = lowered(model)

    assert len(after.nodes("QBlockSparseConv")) == 3
    assert not after.nodes("Conv")
    onnx.checker.check_model(after.to_proto(), full_check=True)
    x = np.random.default_rng(9).standard_normal((1, 8, 12, 12)).astype(np.float32)
    wanted, got = both(model, after, x)
    assert np.abs(wanted - got).max() < 0.02 * np.abs(wanted).max()
