"""FDDA on scans of digits: its premise, images that are what they should be, and few bits after ten images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from graphrewrite.passes.recipes.fdda import QuantizeFdda
from graphrewrite.passes.synth.images.norms import Observed
from tests.engine.bridge.train.digits import scans
from tests.methods import few_images

pytestmark = pytest.mark.slow


def apart_by_class(seed: int) -> list[float]:
    """Return for each norm the variance of statistics between classes by that within them, a mean over channels."""
    observed = Observed(few_images.trained(seed))
    source = few_images.samples(scans()[2][:400])
    assert source.labels is not None
    images = torch.tensor(np.asarray(source.arrays[few_images.IMAGE]))
    with torch.no_grad():
        each = [observed({few_images.IMAGE: image[None]})[1] for image in images]
    found = []
    for norm in range(len(each[0].means)):
        values = np.array(
            [np.concatenate([one.means[norm], one.variances[norm]]) for one in each], np.float64
        )
        groups = [values[source.labels == label] for label in range(10)]
        between = np.var([group.mean(axis=0) for group in groups], axis=0)
        within = np.mean([group.var(axis=0) for group in groups], axis=0)
        found.append(float((between / np.maximum(within, 1e-12)).mean()))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_statistics_tell_classes_apart_in_the_last_norm_more_than_in_the_first(seed: int) -> None:
    found = apart_by_class(seed)

    assert found[-1] > 2 * found[0]


@pytest.mark.parametrize("seed", range(3))
def test_images_are_taken_for_their_class(seed: int) -> None:
    model, few = few_images.trained(seed), few_images.one_each(seed)

    made = few_images.LONG.synthesise(model, few, 256, seed)

    assert (few_images.said(model, made) == made.labels).mean() >= 0.9


@pytest.mark.parametrize("seed", range(3))
def test_at_two_bits_it_gains_on_spans_alone(seed: int) -> None:
    model, few = few_images.trained(seed), few_images.one_each(seed)
    made = few_images.SHORT.synthesise(model, few, 256, seed)

    plain = few_images.accuracy(few_images.rounded(model, QuantizeFdda(2, 4), few))

    assert few_images.accuracy(few_images.learned(model, 2, 4, seed, made)) > plain + 1


def test_hardly_trained_images_are_not_taken_for_their_class() -> None:
    model, few = few_images.trained(0), few_images.one_each(0)

    made = replace(few_images.SHORT, epochs=1, steps=1).synthesise(model, few, 256, 0)

    assert (few_images.said(model, made) == made.labels).mean() < 0.5
