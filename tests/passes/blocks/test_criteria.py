"""What blocks are worth: by hand, by law, and on nets whose useless blocks are known."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.blocks import RemoveBlocks
from graphrewrite.passes.blocks.contribution import Contributions
from graphrewrite.passes.blocks.criteria import BlockCriterion, criteria, needs_of
from graphrewrite.passes.channels.budgets import Ratio
from graphrewrite.passes.channels.evidence import gathered
from graphrewrite.pipeline import Context, Pass
from graphrewrite.runtime import run
from graphrewrite.serial import from_json, to_json
from tests.passes.blocks.drawn import T, blocks_of, planted, planted_maps, remove, resnet, transformer
from tests.passes.channels.nets import floats
from tests.support.registered import is_documented_frozen
from tests.support.tolerances import largest

NAMES = list(criteria)
JUDGES = [name for name in NAMES if name != "random"]


def source(model: Model, count: int = 8) -> ArraySource:
    rng = np.random.default_rng(5)
    return ArraySource(
        {t.name: floats(rng.standard_normal((count, *(t.shape or [])[1:]))) for t in model.inputs}
    )


def scores(model: Model, name: str, seed: int = 0) -> dict[str, float]:
    criterion, found = criteria.make(name), blocks_of(model)
    needs = [need for block in found for need in needs_of(criterion, block)]
    evidence = gathered(model, needs, criterion, Context(source(model), seed, threads=1))
    return {block.name: criterion.score(block, evidence) for block in found}


@pytest.mark.parametrize("name", NAMES)
def test_a_criterion_is_a_documented_frozen_dataclass_and_survives_json(name: str) -> None:
    factory = criteria.find(name)

    assert is_documented_frozen(factory, BlockCriterion)
    step = RemoveBlocks(criteria.make(name))
    assert from_json(json.loads(json.dumps(to_json(step, Pass))), Pass) == step


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("build", [resnet, transformer])
def test_scores_are_finite_and_the_same_twice(name: str, build: Callable[[], Model]) -> None:
    one, two = (scores(build(), name, seed=3) for _ in range(2))

    assert one == two and all(np.isfinite(score) and score >= 0 for score in one.values())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", JUDGES)
def test_planted_blocks_score_zero_and_go_first(name: str, seed: int) -> None:
    model = planted(seed)
    found = scores(model, name)
    step = RemoveBlocks(criteria.make(name), Ratio(0.5))
    result = remove(model, step, Context(source(model), threads=1))
    rows = result.report.steps[0].details["blocks"]

    assert all((found[f"mlp{n}.sum"] < 1e-9) == (n in (1, 3)) for n in range(4))
    assert [row["removed"] for row in rows] == [False, True, False, True]  # type: ignore[union-attr, index, call-overload]
    feeds = dict(source(model).arrays)
    assert largest(run(result.model, feeds), run(model, feeds)) <= 1e-6


@pytest.mark.parametrize("name", JUDGES)
def test_planted_maps_score_zero(name: str) -> None:
    """Made useless by the gain and offset of a norm, not by the convolution before it."""
    found = scores(planted_maps(), name)

    assert {block for block, score in found.items() if score < 1e-9} == {"a1", "b0"}


def single(weight: list[list[float]], bias: list[float], scale: float = 1.0) -> Model:
    """One block of width two: x + scale * (x W + bias), with an embedding that changes nothing before it."""
    b = Builder()
    x = b.op("MatMul", b.input(["N", T, 2], "x"), b.constant(floats(np.eye(2))))
    y = b.op("Add", b.op("MatMul", x, b.constant(floats(weight))), b.constant(floats(bias)))
    y = b.op("Add", x, b.op("Mul", y, b.constant(floats([scale, scale]))), name="block")
    return b.model(b.op("MatMul", y, b.weight(2, 3)))


def test_weight_sizes_by_hand() -> None:
    """Two outputs: columns (3, 0) and (0, 4); bias (1, 1); a scale of one half behind both."""
    model = single([[3, 0], [0, 4]], [1, 1], 0.5)

    assert scores(model, "l1")["block"] == pytest.approx(0.5 * ((3 + 4) / 2 + 1))
    assert scores(model, "l2")["block"] == pytest.approx(0.5 * ((9 + 16) / 2 + 1) ** 0.5)


def test_activations_by_hand() -> None:
    """A branch that doubles the stream changes its length, not its direction; a quarter turn does both."""
    longer, turned = single([[2, 0], [0, 2]], [0, 0]), single([[0, 1], [-1, 0]], [0, 0])

    assert scores(longer, "relative_change")["block"] == pytest.approx(2)
    assert scores(longer, "block_influence")["block"] == pytest.approx(0, abs=1e-6)
    assert scores(turned, "relative_change")["block"] == pytest.approx(1)
    assert scores(turned, "block_influence")["block"] == pytest.approx(1 - 0.5**0.5)


def test_contributions_do_not_depend_on_batches_and_follow_their_definition() -> None:
    rng = np.random.default_rng(0)
    part, stream = (floats(rng.standard_normal((6, 4, 3))) for _ in range(2))
    whole, pieces = Contributions(1), Contributions(1)
    whole.update(part, part + stream)
    for begin in (0, 2):
        end = 2 if begin == 0 else 6
        pieces.update(part[begin:end], (part + stream)[begin:end])

    a, b = np.moveaxis(part + stream, 1, -1).reshape(-1, 4), np.moveaxis(stream, 1, -1).reshape(-1, 4)
    cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    assert whole.result().cosine == pytest.approx(float(cosines.mean()), rel=1e-5)
    assert whole.result() == pytest.approx(pieces.result(), rel=1e-9)


def test_criteria_of_activations_ask_for_data() -> None:
    with pytest.raises(InvalidConfig, match=r"RelativeChange looks at activations.*--data"):
        remove(resnet(), RemoveBlocks(criteria.make("relative_change")))
