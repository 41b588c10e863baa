"""What norms read, against sums worked out apart; what a model without norms is told."""

import numpy as np
import pytest
import torch

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.synth.images.norms import Observed, Statistics, statistics
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Pipeline
from graphrewrite.runtime import run


def net(classes: int = 3) -> Model:
    """Two convolutions with norms behind them, the first norm reading the image itself."""
    b = Builder(seed=1)
    x = b.input(["N", 2, 6, 6], "image")

    def norm(y: object, channels: int) -> object:
        numbers = b.rng.standard_normal((4, channels)).astype(np.float32)
        numbers[3] = np.abs(numbers[3]) + 0.5
        return b.op("BatchNormalization", y, *(b.constant(each) for each in numbers))

    y = b.relu(norm(b.conv(norm(x, 2), 4, 2, bias=False, name="one"), 4))
    y = b.relu(norm(b.conv(y, 5, 4, stride=2, bias=False, name="two"), 5))
    model = b.model(b.linear(b.op("Flatten", b.op("GlobalAveragePool", y)), classes, 5, name="head"))
    model.outputs[0].name = "scores"
    return model


def images(count: int = 4) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((count, 2, 6, 6)).astype(np.float32)


def test_they_are_mean_and_variance_by_channel_of_what_each_norm_reads() -> None:
    model, given = net(), images()
    read = [node.inputs[0].name for node in model.nodes("BatchNormalization")]
    seen = {"image": given, **run(model, {"image": given}, read[1:])}

    scores, found = Observed(model)({"image": torch.tensor(given)})

    for number, name in enumerate(read):
        values = np.asarray(seen[name], np.float64)
        for channel in range(values.shape[1]):
            of_one = values[:, channel].ravel()
            mean = sum(of_one) / len(of_one)
            assert float(found.means[number][channel]) == pytest.approx(mean, abs=1e-5)
            variance = sum((of_one - mean) ** 2) / len(of_one)
            assert float(found.variances[number][channel]) == pytest.approx(variance, rel=1e-4)
    np.testing.assert_allclose(
        scores["scores"], np.asarray(run(model, {"image": given})["scores"]), atol=1e-5
    )


def test_what_norms_keep_comes_in_the_same_order() -> None:
    model = net()

    kept = Observed(model).stored

    for node, mean, variance in zip(
        model.nodes("BatchNormalization"), kept.means, kept.variances, strict=True
    ):
        np.testing.assert_array_equal(mean, node.inputs[3].values)
        np.testing.assert_array_equal(variance, node.inputs[4].values)


def two(one: list[float], other: list[float]) -> Statistics:
    return Statistics((torch.tensor(one), torch.tensor([0.0])), (torch.tensor(other), torch.tensor([1.0])))


def test_a_distance_is_a_mean_over_norms_of_means_over_channels() -> None:
    # Norm 1: means apart by 1 and 3 (mean square 5), variances by 2 and 0 (2); norm 2 the same. (5 + 2) / 2 norms.
    assert float(two([0.0, 0.0], [1.0, 1.0]).distance(two([1.0, 3.0], [3.0, 1.0]))) == pytest.approx(3.5)
    assert float(two([1.0, 2.0], [3.0, 4.0]).distance(two([1.0, 2.0], [3.0, 4.0]))) == 0.0


def test_noise_adds_the_squares_of_its_deviations_to_a_distance() -> None:
    torch.manual_seed(0)
    wide = Statistics((torch.zeros(20_000),), (torch.ones(20_000),))

    found = float(wide.distance(wide.shaken(0.5, 1.0)))

    assert found == pytest.approx(0.25 + 1.0, rel=0.03)
    assert float(wide.distance(wide.shaken(0.5, 1.0))) != found  # drawn anew


def test_a_batch_of_copies_has_the_statistics_of_the_image() -> None:
    observed, one = Observed(net()), torch.tensor(images(1))

    _, alone = observed({"image": one})
    _, copies = observed({"image": one.repeat(8, 1, 1, 1)})

    assert float(copies.distance(alone)) == pytest.approx(0, abs=1e-9)


def test_the_last_are_those_behind() -> None:
    found = statistics([torch.ones(1, 2, 3), torch.zeros(1, 4, 3)]).last(1)

    assert [len(each) for each in found.means] == [4]


def test_gradients_reach_the_images() -> None:
    given = torch.tensor(images()).requires_grad_()

    _, found = Observed(net())({"image": given})
    sum(each.sum() for each in found.variances).backward()

    assert given.grad is not None and bool(given.grad.abs().sum() > 0)


def test_a_model_whose_norms_are_folded_is_told_so() -> None:
    b = Builder(seed=1)
    y = b.batchnorm(b.conv(b.input(["N", 2, 6, 6], "image"), 4, 2, name="one"), 4)
    folded = Pipeline([Tidy()]).run(b.model(y)).model

    with pytest.raises(InvalidConfig, match="no BatchNormalization"):
        Observed(folded)
