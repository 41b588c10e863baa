"""Experts go with their router rows: whatever a router chooses from, and however its choice is written down."""

from collections.abc import Callable

import numpy as np
import pytest

from graphrewrite.dims import groups, reference, shrink
from graphrewrite.errors import VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.check import check
from graphrewrite.passes.channels import ParamsBelow, Ratio, RemoveChannels
from graphrewrite.runtime import run, sample_inputs
from tests.passes.channels.nets import cut, floats, groups_told
from tests.passes.channels.routed import (
    CHOSEN,
    COUNT,
    HIDDEN,
    ROUTED,
    WIDTH,
    Net,
    after,
    before,
    biased,
    planted,
    scattered,
)
from tests.support.tolerances import FLOAT32, UNCHANGED, largest


def experts_of(model: Model) -> list[tuple[str, int, int]]:
    """Return the groups of experts: name, units, how many have to stay."""
    return [(g.name, g.units, g.least) for g in groups(model) if g.kind == "experts"]


@pytest.mark.parametrize("net", ROUTED)
def test_experts_are_a_group_that_keeps_as_many_as_are_chosen(net: str) -> None:
    found = groups(ROUTED[net](0))
    (group,) = [g for g in found if g.kind == "experts"]
    members = {(m.tensor, m.axis) for m in group.members}

    assert (group.units, group.least) == (COUNT, 1 if net == "switched" else CHOSEN)
    assert {("router", 1), ("router.bias", 0), ("up", 0), ("down", 0)} <= members
    assert {g.kind for g in found} == {"experts", "width", "mlp"}
    assert group.params_per_unit == 2 * WIDTH * HIDDEN + WIDTH + 1 + (net == "biased")


def error(model: Model, seed: int, only: str = "", forget: bool = False) -> tuple[float, float]:
    """Cut random units, of one kind or all: the error over two batch sizes, and how far the outputs moved.

    `forget`: the reference is not told that the choice is among the experts that stay.
    """
    found, rng = groups(model), np.random.default_rng(seed)
    dead = found.none_dead()
    for group in found:
        if not only or group.kind == only:
            dead[group.unit_ids] = rng.random(group.units) < rng.random()
            dead[group.unit_ids[rng.integers(group.units)]] = False
    dead = found.balanced(dead)
    labels = found.dead_labels(dead)
    smaller = shrink(found.analysis, labels).model
    check(smaller)
    if forget:
        found.analysis.mixes[:] = [
            mix for mix in found.analysis.mixes if mix.kind not in ("lowest", "highest")
        ]
    slow = reference(found.analysis, labels)[0]
    worst = moved = 0.0
    for world in (0, 1):
        feeds = sample_inputs(model, seed=seed + world, world=world)
        want = run(slow, feeds)
        worst = max(worst, largest(run(smaller, feeds), want))
        moved = max(moved, largest(want, run(model, feeds)))
    return worst, moved


@pytest.mark.parametrize("net", ROUTED)
def test_random_experts_and_everything_else(net: str) -> None:
    moves = []
    for seed in range(5):
        worst, moved = error(ROUTED[net](seed), seed, "experts" if seed < 3 else "")
        assert worst <= FLOAT32
        moves.append(moved)
    assert max(moves) > 1e-2


@pytest.mark.parametrize("build", [after, biased, scattered])
def test_the_oracle_can_fail(build: Callable[[int], Model]) -> None:
    """Mutation: tokens of removed experts would go on to others. A softmax in front of the choice masks by itself."""
    assert max(error(build(seed), seed, "experts", forget=True)[0] for seed in range(4)) > 1e-3


@pytest.mark.parametrize("net", ROUTED)
def test_planted_experts_go_first_and_leave_no_trace(net: str) -> None:
    for seed in range(2):
        model = planted(ROUTED[net], seed)
        result = cut(model, RemoveChannels(budget=Ratio(4 / COUNT), units=("experts",), absorb=False))
        kept = result.report.steps[0].details["kept"]
        feeds = sample_inputs(model, seed=seed)

        assert kept["up"]["0"] == [0, 2, 3, 5]  # type: ignore[index, call-overload]
        assert kept["router"]["1"] == [0, 2, 3, 5]  # type: ignore[index, call-overload]
        assert largest(run(result.model, feeds), run(model, feeds)) <= UNCHANGED


def test_a_net_cut_by_hand() -> None:
    """Expert e multiplies by e + 1. Of the logits x, 2x, 3x the best two are taken, with weights from a softmax."""
    b = Builder(opset=17)
    x = b.input(["N", 1], "in")
    logits = b.op("MatMul", x, b.constant(floats([[1, 2, 3]]), "gate"))
    two, last = (b.constant(np.array([n], np.int64)) for n in (2, -1))
    values, which = b.op_all("TopK", logits, two, outputs=2, axis=-1)
    which.dtype = np.int64
    table = b.constant(floats([[1], [2], [3]]), "table")
    read = b.op("Squeeze", b.op("Gather", table, which), two)
    scaled = b.op("Mul", read, b.op("Softmax", values, axis=-1))
    model = b.model(b.op("Mul", x, b.op("ReduceSum", scaled, last, keepdims=1)))
    found = groups(model)
    (group,) = found
    dead = found.none_dead()
    dead[group.unit_ids[1]] = True  # the second expert

    smaller = shrink(found.analysis, found.dead_labels(dead)).model
    (got,) = run(smaller, {"in": floats([[1.0]])}).values()

    share = np.exp(3) / (np.exp(3) + np.exp(1))
    assert got.item() == pytest.approx(3 * share + 1 * (1 - share), rel=1e-6)
    assert {name: w.shape for name, w in smaller.weights.items() if name in ("gate", "table")} == {
        "gate": (1, 2),
        "table": (2, 1),
    }


def test_a_budget_keeps_as_many_as_are_chosen() -> None:
    for budget in (Ratio(0.1), ParamsBelow(0.55)):
        result = cut(before(), RemoveChannels(budget=budget, units=("experts",), floor=0))
        (row,) = [row for row in groups_told(result) if row["name"] == "router[1]"]
        assert row["kept"] >= CHOSEN
    assert [w.shape[0] for name, w in result.model.weights.items() if name == "up"] >= [CHOSEN]


def test_random_masks_are_brought_to_what_a_choice_needs() -> None:
    found = groups(before())
    (group,) = [g for g in found if g.kind == "experts"]
    dead = found.none_dead()
    dead[group.unit_ids] = True
    order = np.arange(len(dead), dtype=np.float64)

    left = group.unit_ids[~found.balanced(dead, order)[group.unit_ids]]

    assert left.tolist() == group.unit_ids[-CHOSEN:].tolist()
    assert found.macs(~found.none_dead()) < found.floor()


def compared() -> Model:
    """One net for each expert, run on all tokens and masked where the numbers chosen equal its own."""
    net = Net(0)
    b = net.b
    values, which = net.top(net.logits)
    total = None
    for number in range(COUNT):
        hit = b.op("Cast", b.op("Equal", which, net.ints(number)), to=1)
        share = b.op("ReduceSum", b.op("Mul", hit, values), net.ints(1), keepdims=1)
        y = b.op("Mul", b.op("MatMul", net.x, net.weight(f"net{number}", WIDTH, WIDTH)), share)
        total = y if total is None else b.op("Add", total, y)
    assert total is not None
    return net.finish(total)


def as_numbers() -> Model:
    """The numbers of the experts chosen are used as numbers."""
    net = Net(0)
    values, which = net.top(net.logits)
    y = net.looked_up(values, which)
    return net.finish(net.b.op("Mul", y, net.b.op("ReduceSum", net.b.op("Cast", which, to=1), net.ints(1))))


def shown() -> Model:
    """The numbers of the experts chosen are an output of the model."""
    net = Net(0)
    values, which = net.top(net.logits)
    flat = net.b.op("Reshape", which, net.ints(-1))
    flat.dtype = np.int64
    return net.finish(net.looked_up(values, which), flat)


def elsewhere() -> Model:
    """The numbers look up a table of another length as well."""
    net = Net(0)
    values, which = net.top(net.logits)
    more = net.b.op("Gather", net.weight("longer", COUNT + 1, WIDTH), which, axis=0)
    y = net.b.op("Add", net.looked_up(values, which), net.b.op("ReduceSum", more, net.ints(1), keepdims=0))
    return net.finish(y)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (compared, "Equal uses the numbers of its positions as numbers"),
        (as_numbers, "Cast uses the numbers of its positions as numbers"),
        (shown, "the result names positions of this axis, and the model returns it"),
        (elsewhere, "its numbers look up an axis of another length"),
    ],
)
def test_other_uses_of_the_numbers_keep_all_experts_and_say_why(build: Callable[[], Model], why: str) -> None:
    model = build()
    found = groups(model)

    assert not experts_of(model)
    assert why in found.pinned["router[1]"]
    for seed in range(4):
        assert error(model, seed)[0] <= FLOAT32


def test_a_choice_from_groups_keeps_all_experts() -> None:
    """Two of six, seen as three groups of two: the positions are pairs of a group and a place in it."""
    net = Net(0)
    b = net.b
    grouped = b.op("Reshape", net.logits, net.ints(-1, 3, 2))
    groups_best = b.op("ReduceMax", grouped, axes=[2], keepdims=1)
    scores = b.op("Reshape", b.op("Mul", grouped, b.op("Sigmoid", groups_best)), net.ints(-1, COUNT))
    values, which = net.top(scores)
    model = net.finish(net.looked_up(values, which))

    assert "2 are chosen from pairs of labels" in groups(model).pinned["router[1]"]
    for seed in range(3):
        assert error(model, seed)[0] <= FLOAT32


def test_a_choice_that_is_never_masked_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutation: the rule forgets to say that the choice mixes experts; the pipeline finds out."""
    from graphrewrite.dims.step import Step

    plain = Step.mix

    def forgetful(self: Step, kind: str, slot: int, axes: dict[int, object]) -> None:
        if kind != "lowest":
            plain(self, kind, slot, axes)  # type: ignore[arg-type]

    monkeypatch.setattr(Step, "mix", forgetful)
    with pytest.raises(VerificationError):
        cut(after(), RemoveChannels(budget=Ratio(0.5), units=("experts",)))
