"""FDDA's centres, what it draws, and what it refuses; whether the images help is told by tests/methods."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.synth.images import fit
from graphrewrite.passes.synth.images.generator import NOISE, Generator
from graphrewrite.passes.synth.images.norms import Observed
from graphrewrite.passes.synth.synthesisers.fdda import Fdda
from graphrewrite.runtime import run
from tests.passes.synth.test_norms import images, net

SHORT = Fdda(epochs=1, steps=2, batch=4, width=8)


def real(model: Model, count: int = 12) -> ArraySource:
    """Images that the model gets right, whatever it says of them, but for the last."""
    given = images(count)
    labels = np.asarray(run(model, {"image": given})["scores"]).argmax(axis=1)
    labels[-1] = (labels[-1] + 1) % 3
    return ArraySource({"image": given}, labels)


def test_centres_are_statistics_over_all_images_of_a_class() -> None:
    model = net()
    source = real(model)
    assert source.labels is not None

    found = fit.known(fit.Teacher(model), source)

    assert found.classes == 3 and set(found.centres) <= set(source.labels.tolist())
    for label, centre in found.centres.items():
        chosen = torch.tensor(np.asarray(source.arrays["image"])[source.labels == label])
        _, wanted = Observed(model)({"image": chosen})
        assert float(centre.distance(wanted)) == pytest.approx(0, abs=1e-9)


def test_a_class_the_model_gets_no_image_of_right_is_left_out() -> None:
    model, given = net(), images(6)
    said = np.asarray(run(model, {"image": given})["scores"]).argmax(axis=1)
    first = said[0]
    labels = np.where(said == first, first, (said + 1) % 3)

    made = SHORT.synthesise(model, ArraySource({"image": given}, labels), 5)

    assert made.labels is not None and set(made.labels.tolist()) == {first}


@pytest.mark.parametrize(("norms", "first"), [(1, 0), (4, 0), (5, 1), (15, 6), (20, 8), (53, 25)])
def test_the_deep_half_begins_two_norms_early(norms: int, first: int) -> None:
    assert fit.first_deep(norms) == first  # floor((L + 1) / 2) - 2, and not before the first


def test_samples_take_turns_and_are_the_same_again() -> None:
    model = net()
    source = real(model)

    torch.manual_seed(5)
    one, two, other = (SHORT.synthesise(model, source, 7, seed) for seed in (3, 3, 4))
    after = torch.rand(1)

    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))  # nobody else's random numbers are touched
    assert len(one) == 7 and np.asarray(one.arrays["image"]).shape == (7, 2, 6, 6)
    np.testing.assert_array_equal(one.arrays["image"], two.arrays["image"])
    assert not np.array_equal(one.arrays["image"], other.arrays["image"])
    assert (
        one.labels is not None
        and max(np.bincount(one.labels)) - min(np.unique(one.labels, return_counts=True)[1]) <= 1
    )


def test_channels_have_the_mean_and_spread_of_the_real_images() -> None:
    mean, deviation = torch.tensor([3.0, -1.0]), torch.tensor([0.5, 2.0])
    torch.manual_seed(0)
    generator = Generator(3, (2, 7, 5), mean, deviation, width=8)

    drawn = generator(torch.randn(16, NOISE), torch.arange(16) % 3)

    assert drawn.shape == (16, 2, 7, 5)
    torch.testing.assert_close(drawn.mean((0, 2, 3)), mean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(drawn.std((0, 2, 3), correction=0), deviation, atol=1e-2, rtol=1e-2)


def measured_on(model: Model, given: np.ndarray) -> Model:
    """Give norms the statistics of what they read of some images, one after the other."""
    for number, node in enumerate(model.nodes("BatchNormalization")):
        _, seen = Observed(model)({"image": torch.tensor(given)})
        for slot, values in ((3, seen.means[number]), (4, seen.variances[number])):
            model.weights[node.inputs[slot].name] = values.numpy()
    return model


def test_training_brings_the_statistics_closer() -> None:
    # Images of flat patches: other sums under a filter than noise of the same mean and spread.
    flat = np.kron(images(32)[..., :2, :2], np.ones((1, 1, 3, 3), np.float32))
    model = measured_on(net(), flat)
    labels = np.asarray(run(model, {"image": flat})["scores"]).argmax(axis=1)
    teacher = fit.Teacher(model)
    given = fit.known(teacher, ArraySource({"image": flat}, labels))

    def away(method: Fdda) -> float:
        torch.manual_seed(0)
        generator = fit.trained(method, teacher, given)
        drawn = torch.tensor([*given.centres]).repeat(64)[:64]
        with torch.no_grad():
            _, seen = teacher(generator(torch.randn(64, NOISE), drawn))
        return float(seen.distance(teacher.stored))

    only = Fdda(epochs=1, steps=60, width=16, mixed=0, single=0, distorted=0, centred=0)
    assert away(only) < 0.3 * away(replace(only, rate=1e-9))


def test_rates_fall_in_quarters() -> None:
    rates = [Fdda().rate_at(epoch) for epoch in (0, 99, 100, 200, 300, 399)]

    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "no labels"),
        (np.zeros(6, np.float32), "one whole number"),
        (np.full(6, 3), "from 0 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray | None, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        SHORT.synthesise(net(), ArraySource({"image": images(6)}, labels), 4)


def test_images_that_are_all_taken_for_something_else_are_refused() -> None:
    model, given = net(), images(6)
    wrong = (np.asarray(run(model, {"image": given})["scores"]).argmax(axis=1) + 1) % 3

    with pytest.raises(InvalidData, match="none of the 6 images right"):
        SHORT.synthesise(model, ArraySource({"image": given}, wrong), 4)


def test_a_second_input_is_refused() -> None:
    b = Builder(seed=0)
    x, more = b.input(["N", 2, 6, 6], "image"), b.input(["N", 2, 6, 6], "more")
    model = b.model(b.batchnorm(b.add(x, more), 2))

    with pytest.raises(InvalidConfig, match="2 inputs"):
        fit.Teacher(model)


@pytest.mark.parametrize(
    "fields", [{"epochs": 0}, {"batch": 1}, {"rate": 0.0}, {"norms": -1.0}, {"width": 1}], ids=str
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(InvalidConfig, match=next(iter(fields))):
        Fdda(**fields)  # type: ignore[arg-type]
