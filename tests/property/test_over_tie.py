"""Nothing is tied that could be kept apart: labels against every cut there is, on tiny graphs.

See `tests.support.exhaustive` for what "every cut" means and how it is decided without labels.
"""

import inspect
from collections.abc import Callable

import numpy as np
import pytest

import tests.support.exhaustive_more
import tests.support.exhaustive_ops
from graphrewrite.dims import groups, record
from graphrewrite.dims.axes import Axis, of_rows
from graphrewrite.dims.rules import refused
from graphrewrite.dims.step import Step
from graphrewrite.ir import Builder, Model
from tests.support.drawing import Drawing, Style
from tests.support.exhaustive import TABLE, TooMany, allowed_cuts, difference, possible_cuts
from tests.support.tiny import tiny_model

assert tests.support.exhaustive_ops.UNARY[0] in TABLE  # importing it fills the table
assert tests.support.exhaustive_more.ALONE[0] in TABLE


def compared(seeds: range) -> list[tuple[int, str, int]]:
    """Return (seed, what differs, number of cuts) of the seeds whose graphs are small enough.

    A window across a product (Slice across heads) may not become empty, which no tie can say: there a position is
    pinned, and nothing more can be asked than that all that is allowed is possible.
    """
    result = []
    for seed in seeds:
        model = tiny_model(seed)
        try:
            found = groups(model)
            text = difference(model, found)
            if any("window across a product" in reason for reason in found.analysis.labels.reasons):
                text = "" if "not tied enough" not in text else text
            result.append((seed, text, len(allowed_cuts(found))))
        except TooMany:
            continue
    return result


@pytest.mark.parametrize("first", range(0, 100, 20), ids=lambda first: f"seeds-{first}-{first + 19}")
def test_the_labels_allow_exactly_the_cuts_there_are(first: int) -> None:
    results = compared(range(first, first + 20))
    assert not [(seed, text) for seed, text, _ in results if text]
    assert len(results) >= 12
    assert sum(cuts > 3 for _, _, cuts in results) >= 8  # most graphs leave something to decide


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 2100, 50), ids=lambda first: f"seeds-{first}-{first + 49}")
def test_the_labels_allow_exactly_the_cuts_there_are_on_thousands(first: int) -> None:
    assert not [(seed, text) for seed, text, _ in compared(range(first, first + 50)) if text]


# What the oracle does not know, and why; all of it is covered by execution (test_random_graphs.py, the rules' cases).
UNKNOWN = {
    "more channels than can be tried": "DepthToSpace SpaceToDepth Col2Im GroupNormalization",
    "heads and gates make axes larger than can be tried": "Attention RotaryEmbedding RNN GRU LSTM",
    "positions in space stay whole on purpose": (
        "Resize Upsample GridSample RoiAlign MaxRoiPool MaxUnpool DeformConv CenterCropPad LRN DFT ReverseSequence"
    ),
    "goes on at full width on purpose": "CumSum CumProd",
    "whole copies, or picks by computed places, stay together on purpose": (
        "Tile GatherElements GatherND Scatter ScatterElements ScatterND TensorScatter Trilu TopK ArgMax ArgMin OneHot"
    ),
    "bodies, sequences and optionals are not tensors": (
        "If Loop Scan SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength "
        "SplitToSequence ConcatFromSequence Optional OptionalGetElement OptionalHasElement"
    ),
    "numbers of a quantized tensor are not random floats": (
        "QLinearConv QLinearMatMul ConvInteger MatMulInteger QuantizeLinear DequantizeLinear DynamicQuantizeLinear"
    ),
    "sizes, places or random numbers come out": (
        "Shape Size Range NonZero NonMaxSuppression Unique Compress Multinomial Bernoulli EyeLike RandomNormalLike "
        "RandomUniformLike ConstantOfShape"
    ),
    "the same rule as an operator that is known": (
        "BitCast CastLike Clip MeanVarianceNormalization RMSNormalization SimplifiedLayerNormalization Det"
    ),
}


def test_every_standard_operator_is_known_or_listed() -> None:
    ruled = {
        name
        for (domain, name), rule in record.rules.items()
        if domain == "" and inspect.getmodule(rule) is not refused
    }
    listed = {name for names in UNKNOWN.values() for name in names.split()}
    assert ruled - TABLE.keys() - listed == set()
    assert listed & TABLE.keys() == set() and listed <= ruled


# ------------------------------------------------------------------------------------------------ by hand


def chain() -> Model:
    """Two layers with three channels between them."""
    b = Builder()
    x = b.input([1, 2])
    hidden = b.op("MatMul", x, b.weight(2, 3, name="first"))
    return b.model(b.op("MatMul", b.relu(hidden), b.weight(3, 2, name="second")))


def test_three_hidden_channels_can_be_kept_in_seven_ways() -> None:
    cuts = possible_cuts(chain())
    kept = {frozenset({box[1] for key, box in cut if key[0] == "first"}) for cut in cuts}
    assert len(cuts) == len(kept) == 7
    for cut in cuts:
        boxes = {key[0]: box for key, box in cut}
        assert boxes["first"][1] == boxes["second"][0]
        assert boxes["first"][0] == (0, 1) and boxes["second"][1] == (0, 1)


def test_a_residual_leaves_nothing_to_cut_but_the_inside() -> None:
    b = Builder()
    x = b.input([1, 2])
    inside = b.op("MatMul", b.op("MatMul", x, b.weight(2, 2, name="up")), b.weight(2, 2, name="down"))
    model = b.model(b.add(x, inside))
    assert len(possible_cuts(model)) == 3  # {0}, {1}, {0, 1} of the inside
    assert difference(model, groups(model)) == ""


def test_two_heads_of_two_are_cut_as_rectangles() -> None:
    """Three ways for the heads times three for the dims, once both are scaled."""
    b = Builder()
    x = b.op("MatMul", b.input([1, 2]), b.weight(2, 4))
    y = b.op("Reshape", x, b.constant(np.array([1, 2, 2])))
    y = b.op(
        "Mul", b.op("Mul", y, b.constant(np.ones((2, 1), np.float32))), b.constant(np.ones(2, np.float32))
    )
    y = b.op("Reshape", y, b.constant(np.array([1, 4])))
    model = b.model(b.op("MatMul", y, b.weight(4, 2)))
    assert len(possible_cuts(model)) == 9
    assert difference(model, groups(model)) == ""


def test_groups_of_several_slots_are_tied_no_looser_than_they_must() -> None:
    """Here the product is too strict by design (equal counts would do): allowed is a part of possible."""
    d = Drawing(Style(17, symbolic=False, constant_nodes=0.0, computed_shapes=0.0, seed=1))
    x = d.conv(d.input(1, 2, 1, 2), 4, 1, bias=False)
    model = d.model(d.conv(d.conv(x, 4, 1, group=2, bias=False), 1, 1, bias=False))
    allowed, possible = allowed_cuts(groups(model)), possible_cuts(model)
    assert allowed < possible
    assert len(allowed) == 3 * 3 * 3  # groups, slots read, slots made
    # With both groups alive, two more choices of one output each, for every choice of slots read.
    assert len(possible) == 27 + 2 * 3


# ------------------------------------------------------------------------------------------------ mutations


def tie_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every tie also tie the first two positions of the axis."""

    def tie(self: Step, a: Axis, b: Axis, why: str | None = None) -> None:
        original(self, a, b, why)
        if not a.is_rigid and a.is_static and a.sizes[0] > 2:
            rows = self.rows(a)
            original(self, of_rows(rows[:1]), of_rows(rows[1:2]), why)

    original = Step.tie
    monkeypatch.setattr(Step, "tie", tie)


def pin_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave every window whole."""

    def window(self: Step, axis: Axis) -> Axis:
        self.pin(axis, "mutation")
        return axis

    monkeypatch.setattr(Step, "window", window)


def refine_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """See every axis of four as two times two."""

    def forced(self: Step, axes: list[Axis]) -> list[Axis]:
        for axis in axes:
            if not axis.is_rigid and axis.sizes == (4, 4):
                self.digits(axis, [2, 2])
        return original(self, axes)

    original = Step.forced
    monkeypatch.setattr(Step, "forced", forced)


def forget_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "tie", lambda self, a, b, why=None: None)


def forget_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "pin_positions", lambda self, axis, positions, why: None)


@pytest.mark.parametrize(
    ("fault", "text", "least"),
    [
        (tie_neighbours, "tied too much", 6),
        (pin_windows, "tied too much", 3),
        (refine_everything, "tied too much", 3),
        (forget_ties, "not tied enough", 5),
        (forget_pins, "not tied enough", 1),
    ],
    ids=["tie-neighbours", "pin-windows", "refine-everything", "forget-ties", "forget-pins"],
)
def test_a_fault_shows(
    fault: Callable[[pytest.MonkeyPatch], None], text: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    red = 0
    for seed in range(25):
        model = tiny_model(seed)
        try:
            red += text in difference(model, groups(model))
        except TooMany:
            continue
    assert red >= least
