"""Activation criteria against a loop over channels of what onnxruntime computes."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource, collect
from graphrewrite.dims import Groups, groups
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.channels import Ratio, RemoveChannels
from graphrewrite.passes.channels.criteria import Evidence, Need, criteria
from graphrewrite.passes.channels.evidence import needs_of
from graphrewrite.pipeline import Context
from graphrewrite.runtime import run
from tests.passes.channels.nets import cut, floats, group_of, pair, residual, samples, tower


def measured(model: Model, found: Groups, name: str, source: ArraySource) -> Evidence:
    """Collect what a criterion asks for, as the pass does."""
    asked = (need for group in found for need in needs_of(criteria.make(name), group))
    needs = [need for need in asked if isinstance(need, Need)]
    made = {(need.tensor, need.key): need.make() for need in needs}
    by_tensor = {tensor: [made[key] for key in made if key[0] == tensor] for tensor, _ in made}
    collect(model, source, by_tensor, batch=5)
    return Evidence(model, 0, {key: accumulator.result() for key, accumulator in made.items()})


@pytest.mark.parametrize(
    ("name", "measure"), [("activation_mean", lambda v: abs(v.mean())), ("activation_variance", np.var)]
)
def test_the_score_is_the_statistic_of_what_the_reader_sees(name: str, measure: "object") -> None:
    model = tower((8, 12, 6))
    found, source = groups(model), samples(model, 13)

    score = criteria.make(name).score(group_of(found, "w_8"), measured(model, found, name, source))

    # The twelve channels of conv1 are read by conv2, after norm and rectifier.
    read = next(node.inputs[0].name for node in model.nodes("Conv") if node.name == "conv2")
    values = run(model, dict(source.arrays), [read])[read].astype(np.float64)
    loop = np.array([measure(values[:, channel]) for channel in range(12)])  # type: ignore[operator]
    np.testing.assert_allclose(score, loop / loop.mean(), rtol=1e-5)


def test_a_unit_that_is_read_twice_takes_the_mean_of_both() -> None:
    """The stem of a residual net is read before and after the sum."""
    model = residual()
    found, source = groups(model), samples(model)
    group = group_of(found, "w_1")

    score = criteria.make("activation_variance").score(
        group, measured(model, found, "activation_variance", source)
    )

    reads = list(dict.fromkeys(tap.tensor for tap in group.taps))
    assert len(reads) == 3  # both blocks and the head
    values = run(model, dict(source.arrays), reads)
    loops = [np.array([values[name][:, c].astype(np.float64).var() for c in range(8)]) for name in reads]
    np.testing.assert_allclose(score, np.mean([loop / loop.mean() for loop in loops], axis=0), rtol=1e-5)


def test_variance_by_hand() -> None:
    model = pair(first=[[1, 0], [0, 2]], second=[[1, 1]])
    source = ArraySource({"x": floats([[1, 1], [3, 2], [5, -9], [7, 3]])})
    found = groups(model)

    # Behind the rectifier: 1 3 5 7 (mean 4, variance 5) and 2 4 0 6 (mean 3, variance 5).
    for name, expected in (("activation_variance", [1, 1]), ("activation_mean", [8 / 7, 6 / 7])):
        evidence = measured(model, found, name, source)
        np.testing.assert_allclose(criteria.make(name).score(found.groups[0], evidence), expected, rtol=1e-6)


def test_without_data_the_pass_says_what_is_missing() -> None:
    step = RemoveChannels(criteria.make("activation_mean"), Ratio(0.5))

    with pytest.raises(
        InvalidConfig,
        match="ActivationMean looks at activations; expected calibration data; give it with --data",
    ):
        cut(tower(), step, Context())


def test_a_statistic_that_nobody_asked_for_is_an_error() -> None:
    model = tower()

    with pytest.raises(InvalidConfig, match="was not collected; a criterion must list it in needs"):
        criteria.make("activation_mean").score(groups(model).groups[0], Evidence(model))
