"""Layers swapped for operators that skip blocks of zeros: what is swapped, what is folded in, what stays and why."""

import numpy as np
import pytest

from graphrewrite import cost
from graphrewrite.cost.speeds import Speeds
from graphrewrite.custom_ops.blocks.pack import pack
from graphrewrite.dims import groups
from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.sparse import LowerBlockSparse, MaskBlocks, lower_block_sparse
from graphrewrite.passes.sparse.masks.magnitude import Magnitude
from graphrewrite.passes.sparse.masks.one_by_n import OneByN
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.pipeline.manager import PipelineResult
from graphrewrite.pipeline.verify import relative_error
from graphrewrite.runtime import run
from tests.support.speeds import machine_of

RNG = np.random.default_rng(0)


def net() -> Model:
    """Convolutions and products behind which every activation stands that a kernel can apply."""
    b = Builder(seed=2, opset=17)
    x = b.input(["N", 3, 9, 9], "x")
    y = b.relu(b.conv(x, out=16, into=3, name="first"))
    y = b.relu(b.conv(y, out=16, into=16, name="relu"))
    y = b.op(
        "Clip",
        b.conv(y, out=16, into=16, name="clip"),
        b.constant(np.float32(-0.5)),
        b.constant(np.float32(0.5)),
    )
    y = b.op("HardSwish", b.conv(y, out=16, into=16, name="hardswish"))
    z = b.conv(y, out=16, into=16, name="silu")
    y = b.op("Mul", z, b.op("Sigmoid", z))
    y = b.op(
        "Conv", y, b.weight(20, 16, 3, 3), strides=[2, 2], pads=[1, 0, 0, 1], dilations=[2, 2], name="strided"
    )
    y = b.op("Flatten", b.op("GlobalAveragePool", y))
    y = b.linear(y, out=24, into=20, name="gemm")
    y = b.op(
        "Tanh",
        b.op(
            "Add", b.op("MatMul", y, b.weight(24, 24), name="matmul"), b.constant(RNG.random(24, np.float32))
        ),
    )
    return b.model(b.linear(y, out=5, into=24, name="last"))


def lowered(model: Model, when: str = "always", sparsity: float = 0.75) -> PipelineResult:
    steps = (MaskBlocks(OneByN(4), sparsity), LowerBlockSparse(when=when))
    return Pipeline(steps).run(model, Context())


def speeds(factor: float) -> Speeds:
    """A machine on which the sparse forms are `factor` times as fast as dense ones, product for product."""
    forms = [f"BlockSparse{kind}/{width}" for kind in ("Conv", "MatMul") for width in (4, 8, 16, 32)]
    return machine_of({"Conv": 1.0, "MatMul": 1.0} | dict.fromkeys(forms, factor))


def test_every_layer_and_what_is_folded_in() -> None:
    result = lowered(net())
    ops = [node.op for node in result.model.nodes()]
    sparse = {
        node.name: node.attrs.get("activation")
        for node in result.model.nodes("BlockSparseConv", "BlockSparseMatMul")
    }
    assert ops.count("BlockSparseConv") == 5 and ops.count("BlockSparseMatMul") == 2
    assert sorted(sparse.values()) == [0, 0, 0, 1, 2, 3, 4]
    assert not {"Clip", "HardSwish", "Sigmoid"} & set(ops) and ops.count("Relu") == 1
    assert result.report.steps[1].verified.error is not None


def test_it_runs_anywhere() -> None:
    """The same file with the library and, through the function bodies, without."""
    from graphrewrite.runtime.session import run_session, session

    model = lowered(net()).model
    feeds = {"x": RNG.standard_normal((3, 3, 9, 9)).astype(np.float32)}
    (name,) = (tensor.name for tensor in model.outputs)
    wanted = run(model, feeds)[name]
    plain = run_session(session(model, kernels=False), feeds)[name]
    assert relative_error(wanted, plain) <= 1e-5


def test_only_what_is_left_counts() -> None:
    model = net()
    before, after = cost.of(model), cost.of(lowered(model).model)
    ends = sum(row.macs for row in before.nodes if row.name in ("first", "last"))
    assert after.total("macs") == pytest.approx(ends + 0.25 * (before.total("macs") - ends), rel=0.02)


@pytest.mark.parametrize(("factor", "swapped"), [(0.25, 0), (0.27, 0), (0.4, 7)])
def test_a_layer_is_swapped_where_that_is_faster(
    factor: float, swapped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the work at a quarter of the speed gains nothing, a little more is within the margin."""
    monkeypatch.setattr(lower_block_sparse, "known_speeds", lambda: speeds(factor))
    result = lowered(net(), "faster")
    assert len(result.model.nodes("BlockSparseConv", "BlockSparseMatMul")) == swapped
    if not swapped:
        told = [note.text for note in result.report.steps[1].notes]
        assert any("as fast" in text and "a machine" in text for text in told)


def test_without_speeds_nothing_is_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_block_sparse, "known_speeds", lambda: None)
    result = lowered(net(), "faster")
    assert any("graphrewrite calibrate" in note.text for note in result.report.steps[1].notes)
    assert not result.report.steps[1].changed


def test_zeros_without_blocks_stay_dense() -> None:
    steps = (MaskBlocks(Magnitude(), 0.75), LowerBlockSparse(when="always"))
    result = Pipeline(steps).run(net(), Context())
    assert not result.report.steps[1].changed
    assert any("too few blocks" in note.text for note in result.report.steps[1].notes)


def test_filters_in_another_order_are_brought_together() -> None:
    """Blocks of four whose filters were dealt out like cards: none left to see, until they are sorted again."""
    rng = np.random.default_rng(1)
    b = Builder(seed=4, opset=17)
    x = b.input(["N", 3, 6, 6], "x")
    y = b.relu(b.conv(x, out=16, into=3, name="first"))
    weight = rng.standard_normal((32, 16, 3, 3)) * np.repeat(rng.random((4, 16, 3, 3)) < 0.2, 8, axis=0)
    dealt = weight[np.arange(32).reshape(4, 8).T.reshape(-1)].astype(np.float32)
    y = b.relu(
        b.op(
            "Conv",
            y,
            b.constant(dealt),
            b.constant(RNG.random(32, np.float32)),
            pads=[1, 1, 1, 1],
            name="dealt",
        )
    )
    model = b.model(b.conv(y, out=4, into=32, name="last"))

    result = Pipeline((LowerBlockSparse(when="always"),)).run(model, Context())
    (layer,) = result.report.steps[0].details["layers"].values()  # type: ignore[union-attr]
    assert layer["width"] == 8 and layer["density"] == pytest.approx(0.2, abs=0.03)  # type: ignore[call-overload, index]
    assert any("filters moved" in note.text for note in result.report.steps[0].notes)
    as_it_was = Pipeline((LowerBlockSparse(when="always", rearrange=False),)).run(model, Context())
    assert any("too few blocks" in note.text for note in as_it_was.report.steps[0].notes)


def test_channels_do_not_see_through_our_nodes() -> None:
    """What was lowered stays lowered: channel removal is told there is no rule, and nothing is written out."""
    found = groups(inlined(lowered(net()).model))
    assert any("BlockSparseConv" in reason for reason in found.pinned.values())
    assert len(found.analysis.model.nodes("BlockSparseConv")) == 5


def test_what_has_no_kernel_stays_and_says_why() -> None:
    b = Builder(seed=3, opset=17)
    x = b.input(["N", 8, 9], "x")
    y = b.op("Conv", x, b.constant(np.zeros((8, 8, 3), np.float32)), name="one_d")
    y = b.op("Conv", y, b.constant(np.zeros((8, 4, 3), np.float32)), group=2, name="grouped")
    y = b.op("Gemm", b.op("Flatten", y), b.constant(np.zeros((40, 3), np.float32)), name="fine")
    result = Pipeline((LowerBlockSparse(when="always"),)).run(b.model(y), Context())
    told = {note.subject: note.text for note in result.report.steps[0].notes}
    assert (
        "two dimensions" in told["one_d"]
        and "grouped" in told["grouped"]
        and "BlockSparseMatMul" in told["fine"]
    )


def test_an_old_operator_set_is_left_alone() -> None:
    b = Builder(seed=3, opset=11)
    y = b.op("Gemm", b.input(["N", 8], "x"), b.constant(np.zeros((8, 8), np.float32)))
    result = Pipeline((LowerBlockSparse(when="always"),)).run(b.model(y), Context())
    assert not result.changed and any("need 13" in note.text for note in result.report.steps[0].notes)


def test_a_lost_block_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = pack

    def forgetful(weight: np.ndarray, width: int) -> object:
        blocks = right(weight, width)
        return blocks._replace(blocks=blocks.blocks[1:], positions=blocks.positions[1:])

    monkeypatch.setattr(lower_block_sparse, "pack", forgetful)
    with pytest.raises(VerificationError):
        lowered(net())


def test_impossible_options() -> None:
    with pytest.raises(InvalidConfig, match="0 to 1"):
        LowerBlockSparse(min_sparsity=1.5)
    with pytest.raises(InvalidConfig, match="always"):
        LowerBlockSparse(when="never")
