"""Branches of concatenations as blocks: what they are, that they go whole, and that the rest is the masked original."""

import numpy as np
import pytest

from graphrewrite import cost
from graphrewrite.dims.emptied import Emptiness
from graphrewrite.dims.sweep import analyse
from graphrewrite.errors import BudgetError
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.check import check
from graphrewrite.passes.blocks import RemoveBlocks
from graphrewrite.passes.blocks.contribution import Contribution, Contributions
from graphrewrite.passes.blocks.criteria import criteria
from graphrewrite.passes.blocks.cut import masked, without
from graphrewrite.passes.blocks.ledger import Ledger
from graphrewrite.passes.blocks.problem import BlockProblem
from graphrewrite.passes.channels import MacsBelow, ParamsBelow, Ratio
from graphrewrite.pipeline import Context
from graphrewrite.runtime import run, sample_inputs
from tests.passes.blocks.drawn import blocks_of, left_out, remove
from tests.passes.blocks.joined import JOINED, inception, listed, planted, twice
from tests.passes.blocks.test_criteria import source
from tests.passes.channels.nets import floats
from tests.support.tolerances import FLOAT32, UNCHANGED, largest


def modules(*slots: int) -> list[str]:
    return [f"module{number}[{slot}]" for number in range(2) for slot in slots]


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        ("inception", modules(0, 1, 2)),
        ("identity", modules(0, 1, 2)),  # what is handed through is the trunk
        ("densenet", ["concat_8[1]", "concat_13[1]", "concat_18[1]"]),
        ("listed", ["join1[1]", "join2[2]", "join3[3]"]),
        ("twice", ["pair[0]", "pair[1]", "both[0]", "both[1]"]),
        ("grouped", ["after[0]", "after[1]"]),  # a branch of `join` is part of a group: it cannot go alone
        ("sequences", ["sum", "join[0]", "join[1]", "join[2]"]),
        ("pyramid", ["sum", "pyramid[1]", "pyramid[2]"]),
        ("unet", ["concat_12[1]"]),
    ],
)
def test_the_branches_of_a_net_are_those_it_was_drawn_with(net: str, expected: list[str]) -> None:
    assert [block.name for block in blocks_of(JOINED[net]())] == expected


def test_streams_are_modules_and_dense_blocks() -> None:
    assert [b.stream for b in blocks_of(inception())] == ["module0_out"] * 3 + ["module1_out"] * 3
    assert [b.stream for b in blocks_of(listed())] == ["join1_out"] * 3


def test_a_layer_of_a_dense_block_leaves_every_concatenation_it_enters() -> None:
    found = blocks_of(listed())
    entered = [[found.flow.nodes[node].name for node, _ in block.cuts] for block in found]

    assert entered == [["join1", "join2", "join3"], ["join2", "join3"], ["join3"]]


def test_pairs_lie_in_what_joins_them() -> None:
    assert [block.inside for block in blocks_of(twice())] == [2, 2, None, None]


def test_what_goes_with_a_branch_is_known_by_hand() -> None:
    """By hand: the first branch of the first module at 6x6, batch 2: 4 to 3 channels, and 3 less for its readers."""
    first = blocks_of(inception()).blocks[0]

    own, readers = 36 * 4 * 3, 36 * 3 * (3 + 4 + 2)
    assert first.macs == 2 * (own + readers)
    assert first.params == (4 * 3 + 3) + 3 * (3 + 4 + 2)
    assert (first.branch, first.result, first.axis, first.kind) == ("relu_6_out", "module0_out", 1, "concat")


def test_a_net_cut_by_hand() -> None:
    """Two 1x1 layers of numbers, joined and summed up: without the second branch its share is missing, no more."""
    b = Builder()
    x = b.input(["N", 2, 1, 1], "x")
    parts = [
        b.op("Conv", x, b.constant(floats(np.reshape(w, (2, 2, 1, 1)))), name=name)
        for name, w in {"one": [1, 2, 3, 4], "two": [5, 6, 7, 8]}.items()
    ]
    joined = b.op("Concat", *parts, axis=1, name="join")
    head = b.constant(floats(np.reshape([1, 10, 100, 1000], (1, 4, 1, 1))))
    model = b.model(b.op("Conv", joined, head, name="head"))
    feeds = {"x": floats([[[[1]], [[2]]]])}

    (whole,) = run(model, feeds).values()
    (cut,) = run(left_out(model, "join[1]").model, feeds).values()

    assert whole.ravel().tolist() == [5 + 10 * 11 + 100 * 17 + 1000 * 23]
    assert cut.ravel().tolist() == [5 + 10 * 11]
    smaller = left_out(model, "join[1]").model
    assert [node.name for node in smaller.nodes()] == ["one", "join", "head"]
    assert [w.shape for w in smaller.weights.values()] == [(2, 2, 1, 1), (1, 2, 1, 1)]


def error(model: Model, chosen: list[int], wrong: bool = False) -> float:
    """Return how far a cut is from the masked original, over two batch sizes; `wrong` masks other blocks."""
    found = blocks_of(model)
    blocks = [found.blocks[n] for n in chosen]
    smaller = without(found, blocks)
    reference = masked(found, [found.blocks[(n + 1) % len(found)] for n in chosen] if wrong else blocks)
    check(smaller)
    feeds = [sample_inputs(model, seed=world, world=world) for world in (0, 1)]
    return max(largest(run(smaller, each), run(reference, each)) for each in feeds)


def sets(model: Model, count: int = 6) -> list[list[int]]:
    """Return each block alone and random sets of them that leave a model, largest blocks only."""
    found, rng = blocks_of(model), np.random.default_rng(0)
    made = [[n] for n in range(len(found))]
    for _ in range(count):
        problem = BlockProblem(found, rng.random(len(found)), 0.0, frozenset(), lambda dead: 1.0)
        made.append(problem.outermost(problem.share(float(rng.random()))))
    return [chosen for chosen in made if chosen]


@pytest.mark.parametrize("net", JOINED)
def test_each_branch_and_random_sets_of_them(net: str) -> None:
    model = JOINED[net]()
    for chosen in sets(model):
        assert error(model, chosen) <= FLOAT32


@pytest.mark.parametrize("net", ["inception", "listed", "sequences"])
def test_the_oracle_can_fail(net: str) -> None:
    assert error(JOINED[net](), [1], wrong=True) > 1e-3


@pytest.mark.parametrize("net", JOINED)
def test_the_ledger_counts_what_a_cut_costs(net: str) -> None:
    model = JOINED[net]()
    found = blocks_of(model)
    for chosen in sets(model):
        ledger = Ledger(found)
        for number in chosen:
            ledger.leave_out(number)
        left = cost.of(without(found, [found.blocks[n] for n in chosen]))

        assert ledger.is_whole()
        assert (ledger.left("MACs"), ledger.left("parameters")) == (left.macs, left.params)
        for number in reversed(chosen):
            ledger.put_back(number)
        assert ledger.left("MACs") == found.table.macs


@pytest.mark.parametrize("net", JOINED)
def test_a_block_says_what_goes_with_it(net: str) -> None:
    found = blocks_of(JOINED[net]())
    for block in found:
        left = cost.of(without(found, [block]))
        assert (found.table.macs - left.macs, found.table.params - left.params) == (block.macs, block.params)


def test_one_branch_stays_whatever_is_asked() -> None:
    """All but one go; a model without any branch would have nothing to concatenate."""
    for budget in (Ratio(0.01), Ratio(0.33)):
        result = remove(inception(), RemoveBlocks(budget=budget, floor=0))
        joins = result.model.nodes("Concat")
        assert [len(node.inputs) for node in joins] == [1, 1]
    with pytest.raises(BudgetError, match="hold at most"):
        remove(inception(), RemoveBlocks(budget=MacsBelow(0.01), floor=0))


def test_a_set_without_a_model_is_no_choice() -> None:
    """Each branch may go alone; the ledger refuses the last of a module."""
    found = blocks_of(inception())
    ledger = Ledger(found)
    for number in (0, 1):
        ledger.leave_out(number)
        assert ledger.is_whole()
    ledger.leave_out(2)
    assert not ledger.is_whole()


@pytest.mark.parametrize("net", JOINED)
@pytest.mark.parametrize("budget", [MacsBelow(0.8), ParamsBelow(0.8), Ratio(0.5)])
def test_the_pass_is_proved_and_meets_its_budget(net: str, budget: Ratio | MacsBelow | ParamsBelow) -> None:
    model = JOINED[net]()
    try:
        result = remove(model, RemoveBlocks(budget=budget, floor=0))
    except BudgetError as refusal:
        assert "may go" in str(refusal) and net in ("unet", "pyramid", "twice", "grouped")
        return
    verified = result.report.steps[0].verified
    assert verified.how == "reference" or (net == "unet" and isinstance(budget, Ratio))
    assert verified.error is None or verified.error <= FLOAT32
    if isinstance(budget, MacsBelow):
        assert cost.of(result.model).macs <= 0.8 * cost.of(model).macs


@pytest.mark.parametrize("name", [name for name in criteria if name != "random"])
def test_planted_branches_go_first_and_leave_no_trace(name: str) -> None:
    for seed in range(3):
        model = planted(seed)
        step = RemoveBlocks(criteria.make(name), Ratio(0.6), floor=0)
        result = remove(model, step, Context(source(model), threads=1))
        rows = result.report.steps[0].details["blocks"]
        gone = [row["name"] for row in rows if row["removed"]]  # type: ignore[union-attr, index, call-overload]
        feeds = sample_inputs(model, seed=seed)

        assert gone == ["module0[1]", "module1[2]"]
        assert largest(run(result.model, feeds), run(model, feeds)) <= UNCHANGED


def test_contributions_to_a_concatenation_are_those_beside_zeros() -> None:
    """By hand: rows (3, 4 | 12) and (0, 0 | 5); without the branch (3, 4) the stream is (0, 0, 12) and (0, 0, 5)."""
    part, whole = floats([[3, 4], [0, 0]]), floats([[3, 4, 12], [0, 0, 5]])
    found = Contributions(1, is_part=True)
    found.update(part, whole)

    assert found.result() == pytest.approx(Contribution(2, (12 / 13 + 1) / 2, 25, 169), rel=1e-6)


def test_empty_tensors_are_those_that_lose_every_position() -> None:
    analysis = analyse(inception())
    found = blocks_of(inception())
    width = found.width
    assert width is not None
    dead = width.labels([found.blocks[0]])
    assert dead is not None

    tensors, readers = Emptiness(analysis).of(dead)

    assert tensors == {"module0.first_out", "relu_6_out"}
    assert {found.flow.nodes[n].name for n in readers} == {"module0.first"}
