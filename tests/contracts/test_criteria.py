"""Laws that every registered criterion obeys; a new one is held to them without being told."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite import models
from graphrewrite.data import ArraySource, load
from graphrewrite.dims import Groups, groups
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.passes.channels.criteria import criteria
from graphrewrite.passes.channels.evidence import Criterion, gathered, needs_of
from graphrewrite.pipeline import Context, Pass, Pipeline
from graphrewrite.serial import from_json, to_json
from tests.passes.channels.nets import NETS, attention, branches, floats, grouped, residual, samples, tower
from tests.support.registered import is_documented_frozen

# Without torch there are no gradients to score by.
BY_GRADIENT = frozenset({"taylor", "fisher"})
NAMES = [name for name in criteria if find_spec("torch") is not None or name not in BY_GRADIENT]
Scores = dict[str, npt.NDArray[np.float64]]
# Its numbers belong to places, not to channels: that is what makes it the floor to compare with.
BY_PLACE = frozenset({"random"})


def scored(model: Model, name: str, seed: int = 0, source: ArraySource | None = None) -> Scores:
    """Return the scores of every group, with what the criterion needs collected as the pass does it."""
    return {group.name: score for group, score in zip(*_scored(model, name, seed, source), strict=True)}


def _scored(
    model: Model, name: str, seed: int, source: ArraySource | None
) -> tuple[Groups, list[npt.NDArray[np.float64]]]:
    criterion, found = criteria.make(name), groups(model)
    needs = [need for group in found for need in needs_of(criterion, group)]
    evidence = gathered(model, needs, criterion, Context(source or samples(model), seed))
    return found, [criterion.score(group, evidence) for group in found]


@pytest.mark.parametrize("name", NAMES)
def test_a_criterion_is_a_documented_frozen_dataclass_in_a_file_of_its_own(name: str) -> None:
    factory = criteria.find(name)

    assert is_documented_frozen(factory, Criterion)
    assert factory.__module__.startswith("graphrewrite.passes.channels.criteria.")


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_one_finite_number_per_unit(name: str, net: str) -> None:
    model = NETS[net]()
    source = None
    if net == "recurrent":  # its samples lie on axis 1
        source = ArraySource({"x": floats(np.random.default_rng(0).standard_normal((5, 6, 4)))})
    found = {group.name: group for group in groups(model)}

    scores = scored(model, name, source=source)

    assert scores.keys() == found.keys()
    for group, score in scores.items():
        assert score.shape == (found[group].units,) and score.dtype.kind == "f"
        assert np.isfinite(score).all() and (score >= 0).all()
        assert found[group].units == 1 or len(set(score)) > 1  # it tells units apart


@pytest.mark.parametrize("net", [residual, attention, grouped])
@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_scores_again(name: str, net: Callable[[], Model]) -> None:
    one, two = scored(net(), name, seed=3), scored(net(), name, seed=3)

    for group, score in one.items():
        np.testing.assert_array_equal(score, two[group])


def permuted(model: Model, group: str, order: npt.NDArray[np.int64]) -> Model:
    """Put the units of a group into another order, everywhere at once: the model computes what it did."""
    (found,) = [each for each in groups(model) if each.name == group]
    copy = model.clone()
    for member in found.members:
        array = np.moveaxis(np.array(copy.weights[member.tensor]), member.axis, 0)
        array[member.index.ravel()] = array[member.index[order].ravel()]
        copy.weights[member.tensor] = np.moveaxis(array, 0, member.axis)
    return copy


@pytest.mark.parametrize(
    ("net", "group"), [(tower, "w_8[0]"), (residual, "w_1[0]"), (attention, "v[1]"), (branches, "w_10[0]")]
)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in BY_PLACE])
def test_scores_follow_the_channels_when_these_change_places(
    name: str, net: Callable[[], Model], group: str
) -> None:
    model = net()
    before = scored(model, name)
    order = np.random.default_rng(8).permutation(len(before[group]))

    after = scored(permuted(model, group, order), name)

    np.testing.assert_allclose(after[group], before[group][order], rtol=1e-4)
    for other in before.keys() - {group}:
        np.testing.assert_allclose(after[other], before[other], rtol=1e-4)


def beside(model: Model, seed: int) -> Model:
    """Draw a second net of random weights beside a model, reading the same input, with an output of its own."""
    b = Builder(seed=seed)
    b.graph = model.graph
    x = model.inputs[0]
    y = b.op(
        "Conv",
        x,
        b.constant(floats(b.rng.standard_normal((9, 3, 3, 3))), "beside.w"),
        name="beside.conv",
        kernel_shape=[3, 3],
    )
    y = b.op("Relu", y, name="beside.relu")
    y = b.op(
        "Conv",
        y,
        b.constant(floats(b.rng.standard_normal((2, 9, 1, 1))), "beside.v"),
        name="beside.head",
        kernel_shape=[1, 1],
    )
    y.dtype = np.dtype(np.float32)
    model.graph.outputs.append(y)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_scores_do_not_hang_on_an_unrelated_part_of_the_graph(name: str) -> None:
    alone, one, two = (
        scored(model, name, seed=1) for model in (tower(), beside(tower(), 1), beside(tower(), 2))
    )

    assert set(one) - set(alone) == {"beside.w[0]"}
    for group, score in alone.items():
        np.testing.assert_allclose(one[group], score, rtol=1e-6)
        np.testing.assert_allclose(two[group], score, rtol=1e-6)


@pytest.mark.parametrize("net", [tower, residual, branches, grouped, attention])
@pytest.mark.parametrize("name", NAMES)
def test_removal_with_it_passes_its_claim(name: str, net: Callable[[], Model]) -> None:
    model = net()

    result = Pipeline([RemoveChannels(criteria.make(name), MacsBelow(0.6))]).run(
        model, Context(data=samples(model), threads=1)
    )

    assert result.changed and result.report.steps[0].verified.how == "reference"


@pytest.mark.parametrize("shipped", models.names())
@pytest.mark.parametrize("name", NAMES)
def test_removal_with_it_passes_its_claim_on_trained_models(name: str, shipped: str) -> None:
    pytest.importorskip("sklearn")
    model = Model.load(models.shipped(shipped))
    (images,) = load(models.card(shipped).calibration, model).batches(256)
    few = ArraySource({key: array[:16] for key, array in images.items()})

    result = Pipeline([RemoveChannels(criteria.make(name), MacsBelow(0.5))]).run(
        model, Context(data=few, threads=1)
    )

    (step,) = result.report.steps
    assert step.verified.how == "reference"
    assert step.verified.movement is not None and step.verified.movement > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_json_within_a_pass(name: str) -> None:
    step = RemoveChannels(criteria.make(name))

    assert from_json(json.loads(json.dumps(to_json(step, Pass))), Pass) == step


PEAK = '''
"""Peak magnitude: a channel is worth its largest absolute weight."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.dims import ChannelGroup
from graphrewrite.passes.channels.criteria import Evidence, criteria


@criteria.register("peak")
@dataclass(frozen=True)
class Peak:
    """Score a unit by the largest |w| among the weights that produce it."""

    def score(self, group: ChannelGroup, evidence: Evidence) -> np.ndarray:
        """Return one score per unit, shape [units], larger = keep. Weight units."""
        return group.reduce(evidence.producer_weights, lambda w: np.abs(w).max(axis=1), into=np.maximum)
'''

USE = """
import json
import sys

import numpy as np

from graphrewrite.dims import groups
from graphrewrite.ir import Builder
from graphrewrite.passes.channels import RemoveChannels, Ratio
from graphrewrite.passes.channels import criteria as room
from graphrewrite.pipeline import Pipeline

if len(sys.argv) > 1:
    room.__path__.append(sys.argv[1])  # a folder more, as if the file lay in the room itself

b = Builder()
x = b.input([1, 2], "x")
y = b.op("Relu", b.op("Gemm", x, b.constant(np.array([[0.1, -3.0], [0.2, 0.5]], np.float32)), transB=1))
model = b.model(b.op("Gemm", y, b.constant(np.eye(2, dtype=np.float32) * 100)))
(group,) = groups(model)
peak = room.criteria.make("peak")
pipeline = Pipeline([RemoveChannels(peak, Ratio(0.5))])
result = pipeline.run(model)
print(json.dumps({
    "score": peak.score(group, room.Evidence(model)).tolist(),
    "kept": result.report.steps[0].details["kept"],
    "again": Pipeline.from_json(pipeline.to_json()) == pipeline,
    "names": list(room.criteria),
}))
"""


def told_by(*arguments: str, path: Path | None = None) -> Mapping[str, object]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(path)} if path is not None else {})
    done = subprocess.run(
        [sys.executable, "-c", USE, *arguments], capture_output=True, text=True, env=env, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def check(told: Mapping[str, object]) -> None:
    (first, second) = np.array(told["score"])
    assert (first, second) == (3.0, 0.5)  # the largest weight of each filter; what reads them does not count
    kept = told["kept"]
    assert isinstance(kept, dict) and all(
        positions == [0] for axes in kept.values() for positions in axes.values()
    )
    assert told["again"] is True
    assert told["names"] == sorted([*criteria, "peak"])


def test_a_newcomers_file_in_the_folder_is_found_and_works(tmp_path: Path) -> None:
    (tmp_path / "peak.py").write_text(PEAK)

    check(told_by(str(tmp_path)))


def test_another_distribution_brings_a_criterion_by_an_entry_point(tmp_path: Path) -> None:
    (tmp_path / "peak_pack.py").write_text(PEAK)
    info = tmp_path / "peak_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: peak-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[graphrewrite.criterion]\npeak = peak_pack:Peak\n")

    check(told_by(path=tmp_path))


def test_a_newcomer_is_held_to_these_laws_by_being_registered() -> None:
    """The lists above come from the registry, and each law runs over all of them."""
    assert {
        "l1",
        "l2",
        "bn_scale",
        "geometric_median",
        "random",
        "activation_mean",
        "activation_variance",
    } <= set(NAMES)
    assert set(criteria) >= BY_GRADIENT
    assert set(NAMES) >= BY_PLACE
