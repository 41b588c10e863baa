"""Gradient criteria: by hand, against gates that are really moved, and against channels that are really zeroed."""

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
import pytest
from scipy.stats import spearmanr

from graphrewrite.data import ArraySource
from graphrewrite.dims import ChannelGroup, Groups, groups
from graphrewrite.errors import InvalidConfig, InvalidData, MissingExtra, UnsupportedOp
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels import Ratio, RemoveChannels
from graphrewrite.passes.channels.criteria import criteria
from graphrewrite.passes.channels.criteria.l1 import L1
from graphrewrite.passes.channels.criteria.taylor import Taylor
from graphrewrite.passes.channels.evidence import gathered, needs_of
from graphrewrite.pipeline import Context
from graphrewrite.runtime import run
from tests.passes.channels.nets import Wide, branches, cut, floats, group_of, pair, samples

torch = pytest.importorskip("torch")

GRADIENT = ("taylor", "fisher")


def scores(model: Model, name: str, source: ArraySource, seed: int = 0) -> dict[str, Wide]:
    """Return the scores of every group by its name; gradients are those of the labels where there are any."""
    by_labels = {"loss": "labels"} if name in GRADIENT and source.labels is not None else {}
    criterion, found = criteria.make(name, **by_labels), groups(model)
    needs = [need for group in found for need in needs_of(criterion, group)]
    evidence = gathered(model, needs, criterion, Context(source, seed))
    return {group.name: criterion.score(group, evidence) for group in found}


def linear_pair() -> tuple[Model, ArraySource]:
    """Two inputs, two hidden units that are never negative, two classes."""
    source = ArraySource({"x": floats(np.array([[1, 1], [2, 0.5]]))}, labels=np.array([0, 1]))
    return pair([[1, 0], [0, 2]], [[1, 0], [0, 1]]), source


def test_both_by_hand() -> None:
    # h = (1, 2) and (2, 1), the scores of both classes; of each sample the wrong one is larger by 1.
    model, source = linear_pair()
    p = 1 / (1 + np.e)  # the probability of the right class
    # dL/dy is (p - 1, 1 - p) for the first sample and (1 - p, p - 1) for the second.
    gap = 1 - p
    gates = np.array(
        [[-gap * 1, gap * 2], [gap * 2, -gap * 1]]
    )  # gradient of a gate on h: sum of dL/dy_k v_ku h_u

    np.testing.assert_allclose(
        scores(model, "fisher", source)["first[0]"], (gates**2).mean(axis=0), rtol=1e-5
    )
    # One batch: gradients of weights are means over both samples. Only v_00 and v_11 are not zero, and w_00 and w_11.
    reads = gates.mean(axis=0)  # v_uu dL/dv_uu; for a linear unit w_uu dL/dw_uu is the same
    np.testing.assert_allclose(scores(model, "taylor", source)["first[0]"], 2 * reads**2, rtol=1e-5)


def scaled(model: Model, group: ChannelGroup, unit: int, by: float) -> Model:
    """Multiply a unit by a factor wherever it is read."""
    copy = model.clone()
    for member in group.members:
        if member.role == "consumer":
            array = np.moveaxis(np.array(copy.weights[member.tensor]), member.axis, 0)
            array[member.index[unit]] *= np.float32(by)
            copy.weights[member.tensor] = np.moveaxis(array, 0, member.axis)
    return copy


def losses(model: Model, source: ArraySource) -> Wide:
    """Cross-entropy of every sample in float64, from what onnxruntime computes."""
    y = next(iter(run(model, dict(source.arrays)).values())).astype(np.float64)
    assert source.labels is not None
    top = y.max(axis=1, keepdims=True)
    norm = np.log(np.exp(y - top).sum(axis=1)) + top[:, 0]
    return np.asarray(norm - y[np.arange(len(y)), np.asarray(source.labels).astype(np.int64)])


def classifier(seed: int) -> tuple[Model, ArraySource]:
    """Convolutions with residual sums and a head, trained by nobody, and labels of its own with some noise."""
    b = Builder(seed=seed)
    y = b.relu(b.conv(b.input(["N", 3, 6, 6], "x"), 12, 3, name="stem"))
    y = b.relu(b.add(y, b.conv(b.relu(b.conv(y, 16, 12, name="in")), 12, 16, name="out")))
    flat = b.op("Flatten", b.op("GlobalAveragePool", y), axis=1)
    model = b.model(b.linear(flat, out=5, into=12, name="head"))
    source = samples(model, 48, seed)
    scores = next(iter(run(model, dict(source.arrays)).values()))
    noise = np.random.default_rng(seed).standard_normal(scores.shape) * scores.std()
    labels = (scores + noise).argmax(axis=1).astype(np.int64)
    return model, ArraySource(dict(source.arrays), labels)


def moved_gates(model: Model, group: ChannelGroup, source: ArraySource, step: float = 2e-3) -> Wide:
    """Return what fisher estimates, by moving every gate a little to both sides: [units]."""
    found = []
    for unit in range(group.units):
        up, down = (losses(scaled(model, group, unit, 1 + sign * step), source) for sign in (1, -1))
        found.append((((up - down) / (2 * step)) ** 2).mean())
    return np.array(found)


@pytest.mark.parametrize("group", ["stem", "in"])
def test_fisher_is_the_squared_gradient_of_gates(group: str) -> None:
    """The stem is read by a block and, behind the sum, by the head: one gate for both, though two layers make it."""
    model, source = classifier(1)
    found = groups(model)
    names = {"stem": "w_1", "in": "w_4"}
    chosen = group_of(found, names[group])

    got = scores(model, "fisher", source)[chosen.name]

    np.testing.assert_allclose(got, moved_gates(model, chosen, source), rtol=0.05)


def test_the_reference_sees_a_gate_that_forgets_a_reader() -> None:
    """A mutation: with the head left out of the stem's gate, the same comparison fails."""
    model, source = classifier(1)
    found = groups(model)
    chosen = group_of(found, "w_1")
    readers = [member for member in chosen.members if member.role == "consumer"]
    assert len(readers) == 2
    half = ChannelGroup(chosen.name, chosen.unit_ids, tuple(readers[:1]), (), 0.0, 0.0, 1)

    whole, part = moved_gates(model, chosen, source), moved_gates(model, half, source)

    assert np.abs(part / whole - 1).max() > 0.2


def harm(model: Model, found: Groups, source: ArraySource) -> dict[str, Wide]:
    """Return by how much the mean loss moves when a unit is zeroed, for every unit of every group."""
    before = losses(model, source)
    return {
        group.name: np.array(
            [
                abs(losses(scaled(model, group, unit, 0.0), source) - before).mean()
                for unit in range(group.units)
            ]
        )
        for group in found
    }


def agreements(names: Sequence[str], seeds: range) -> dict[str, float]:
    """Return the mean rank correlation of criteria with the harm of zeroing."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for seed in seeds:
        model, source = classifier(seed)
        real = harm(model, groups(model), source)
        for name in names:
            guessed = scores(model, name, source)
            found[name] += [spearmanr(real[group], guessed[group]).statistic for group in real]
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_they_rank_units_as_zeroing_them_does_and_better_than_magnitudes() -> None:
    by = agreements((*GRADIENT, "l1", "l2", "random"), range(3))

    assert by["fisher"] > 0.9
    assert by["taylor"] > max(by["l1"], by["l2"]) + 0.1
    assert by["fisher"] > by["taylor"]
    assert abs(by["random"]) < 0.4  # the comparison can tell


def test_without_labels_they_see_how_far_the_outputs_move() -> None:
    """Signs drawn for every output: with many samples, the expectation is what a gate really moves."""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((6, 4)), rng.standard_normal((3, 6))
    model = pair(first, second)
    x = rng.standard_normal((4000, 4))
    source = ArraySource({"x": floats(x)})

    got = scores(model, "fisher", source)["first[0]"]

    hidden = np.maximum(x @ first.T, 0)
    y = hidden @ second.T
    moved = hidden**2 * (second**2).sum(axis=0) / (y**2).mean()  # [samples, units]
    np.testing.assert_allclose(got, moved.mean(axis=0), rtol=0.1)


def test_other_signs_with_another_seed() -> None:
    model = branches()

    one, two = (scores(model, "taylor", samples(model), seed)["w_10[0]"] for seed in (1, 2))

    assert (one != two).any()


@pytest.mark.parametrize("name", GRADIENT)
def test_a_softmax_in_the_graph_is_taken_as_one(name: str) -> None:
    plain, source = linear_pair()
    b = Builder()
    x = b.input(["N", 2], "x")
    hidden = b.relu(b.op("Gemm", x, b.constant(floats([[1, 0], [0, 2]]), "first"), transB=1))
    y = b.op("Gemm", hidden, b.constant(floats([[1, 0], [0, 1]]), "second"), transB=1)
    ended = b.model(b.op("Softmax", y, axis=-1))

    np.testing.assert_allclose(
        scores(ended, name, source)["first[0]"], scores(plain, name, source)["first[0]"], rtol=1e-4
    )


def test_labels_belong_to_the_output_with_a_class_for_each() -> None:
    model, source = linear_pair()
    both = model.clone()
    (hidden,) = (node.inputs[0] for node in both.nodes() if node.outputs[0].name == both.outputs[0].name)
    narrow = gs.Variable("box", np.float32, ("N", 1))
    both.graph.nodes.append(gs.Node("ReduceMean", "mean", {"axes": [1], "keepdims": 1}, [hidden], [narrow]))
    both.graph.outputs.insert(0, narrow)
    alone = scores(model, "taylor", source)["first[0]"]
    np.testing.assert_allclose(scores(both, "taylor", source)["first[0]"], alone, rtol=1e-6)


def test_taylor_averages_over_batches() -> None:
    model, source = linear_pair()
    one_by_one = [
        scores(model, "taylor", ArraySource({"x": source.arrays["x"][i : i + 1]}, np.array([i])))["first[0]"]
        for i in range(2)
    ]

    step = RemoveChannels(Taylor(batch=1, loss="labels"), Ratio(0.5))
    result = cut(model, step, Context(source, threads=1))

    (row,) = [row for row in _rows(result.report.steps[0].details["groups"])]
    means = np.mean(one_by_one, axis=0)
    assert (row["lowest_kept_score"], row["highest_removed_score"]) == pytest.approx(
        (means.max(), means.min()), rel=1e-5
    )


def _rows(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


def quantised(parts: int) -> Model:
    """A product with floats, then groups made and read by products with whole-number weights."""
    b = Builder(seed=0)
    x = b.input(["N", 4], "x")

    def layer(y: gs.Variable, rows: int, columns: int, name: str) -> gs.Variable:
        values = b.rng.integers(-100, 100, (rows, columns)).astype(np.int8)
        return b.op("MatMul", y, b.op("Cast", b.constant(values, name), to=1))

    y = layer(b.relu(layer(x, 4, 6, "first")), 6, 3, "second")
    if parts > 1:
        y = b.op(
            "MatMul", b.relu(b.op("MatMul", y, b.weight(3, 5, name="third"))), b.weight(5, 2, name="fourth")
        )
    return b.model(y)


@pytest.mark.parametrize("name", GRADIENT)
def test_weights_without_gradients_are_scored_by_l1(name: str) -> None:
    model = quantised(2)
    group = group_of(groups(model), "first", 1)

    got = scores(model, name, samples(model))[group.name]

    criterion = L1()
    np.testing.assert_array_equal(got, criterion.score(group, gathered(model, (), criterion, Context())))


def test_a_model_without_any_gradient_is_refused() -> None:
    model = quantised(1)

    with pytest.raises(UnsupportedOp, match="none of the 2 weights has a gradient"):
        scores(model, "taylor", samples(model))


@pytest.mark.parametrize("name", GRADIENT)
def test_without_data_the_pass_says_what_is_missing(name: str) -> None:
    model, _ = linear_pair()

    with pytest.raises(
        InvalidConfig, match="looks at gradients; expected calibration data; give it with --data"
    ):
        cut(model, RemoveChannels(criteria.make(name), Ratio(0.5)), Context())


@pytest.mark.parametrize(
    "labels", [np.array([0, 2]), np.array([-1, 0]), np.array([0.5, 1.0]), np.array([[0], [1]])]
)
def test_labels_that_are_no_classes_are_refused(labels: npt.NDArray[np.generic]) -> None:
    model, source = linear_pair()

    with pytest.raises(InvalidData, match="the labels .* take the loss of"):
        scores(model, "taylor", ArraySource(dict(source.arrays), labels))


def test_outputs_that_nothing_flows_from_are_refused() -> None:
    b = Builder(seed=0)
    y = b.op("MatMul", b.relu(b.op("MatMul", b.input(["N", 4], "x"), b.weight(4, 6))), b.weight(6, 3))
    model = b.model(b.op("ArgMax", y, axis=1))

    with pytest.raises(UnsupportedOp, match="none of the 2 weights has a gradient .* no gradient gets to it"):
        scores(model, "taylor", samples(model))


def test_fewer_samples_than_a_fixed_batch_are_refused() -> None:
    b = Builder(seed=0)
    y = b.op("MatMul", b.relu(b.op("MatMul", b.input([8, 4], "x"), b.weight(4, 6))), b.weight(6, 3))
    model = b.model(y)

    with pytest.raises(InvalidData, match="3 samples, but the model takes batches of exactly 8"):
        scores(model, "fisher", samples(model, 3))


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model, source = linear_pair()
    monkeypatch.setitem(sys.modules, "graphrewrite.bridge.gradients", None)

    with pytest.raises(MissingExtra, match=r'pip install "graphrewrite\[train\]"'):
        scores(model, "taylor", source)


@pytest.mark.parametrize("batch", [0, -1, True])
def test_an_impossible_batch_is_refused(batch: int) -> None:
    with pytest.raises(InvalidConfig, match="Taylor.batch is"):
        Taylor(batch=batch)


@pytest.mark.parametrize("name", GRADIENT)
def test_labels_are_not_looked_at_unless_asked_for(name: str) -> None:
    model, source = classifier(2)
    found = groups(model)
    criterion = criteria.make(name)
    needs = [need for group in found for need in needs_of(criterion, group)]
    plain = ArraySource(dict(source.arrays))

    one, two = (gathered(model, needs, criterion, Context(data)) for data in (source, plain))

    for group in found:
        np.testing.assert_array_equal(criterion.score(group, one), criterion.score(group, two))


@pytest.mark.parametrize("name", GRADIENT)
def test_labels_asked_for_and_not_there_are_an_error(name: str) -> None:
    model, source = linear_pair()
    step = RemoveChannels(criteria.make(name, loss="labels"), Ratio(0.5))

    with pytest.raises(InvalidData, match="the loss of labels was asked for and the data has none"):
        cut(model, step, Context(ArraySource(dict(source.arrays))))
    with pytest.raises(InvalidConfig, match=r"loss is 'other'; expected 'outputs' .* or 'labels'"):
        criteria.make(name, loss="other")
