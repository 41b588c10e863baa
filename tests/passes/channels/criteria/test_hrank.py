"""Feature-map rank: against one decomposition per map, on planted ranks, and on two sets of images."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from graphrewrite import models
from graphrewrite.data import ArraySource
from graphrewrite.data.accumulators import Rank, Spectra
from graphrewrite.dims import groups
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels.criteria.hrank import ranked, tie_share
from graphrewrite.runtime import run
from tests.contracts.test_criteria import scored
from tests.passes.channels.nets import Wide, floats, samples, tower


def one_by_one(maps: Wide) -> Wide:
    """Return the mean rank and, where ranks tie, the share of the largest nuclear norm, map by map: [channels]."""
    ranks, norms = np.zeros(maps.shape[:2]), np.zeros(maps.shape[:2])
    for sample, channel in np.ndindex(*maps.shape[:2]):
        values = np.linalg.svd(maps[sample, channel], compute_uv=False)
        limit = values[0] * max(maps.shape[2:]) * np.finfo(np.float32).eps
        ranks[sample, channel] = sum(value > limit for value in values)
        norms[sample, channel] = sum(values)
    nuclear = norms.mean(axis=0)
    return np.asarray(ranks.mean(axis=0) + nuclear / nuclear.max() / (2 * len(maps)))


def reads(model: Model, source: ArraySource, node: str) -> Wide:
    """Return what a node reads, in double precision."""
    (name,) = [each.inputs[0].name for each in model.graph.nodes if each.name == node]
    return run(model, dict(source.arrays), [name])[name].astype(np.float64)


def test_the_score_is_the_rank_of_what_the_reader_sees() -> None:
    model = tower((8, 12, 6))
    source = samples(model, 13)

    score = scored(model, "hrank", source=source)["w_8[0]"]  # made by conv1, read by conv2

    loop = one_by_one(reads(model, source, "conv2"))
    np.testing.assert_allclose(score, loop / loop.mean(), rtol=1e-9)


def planted() -> Model:
    """Three channels: blocks of two ranks (1 and 3 of what comes in) and a dead one, read by a convolution."""
    b = Builder()
    x = b.input(["N", 2, 8, 8], "x")
    w = floats([[1, 0], [0, 1], [0, 0]])[:, :, None, None]
    y = b.relu(b.op("Conv", x, b.constant(w, "made"), kernel_shape=[1, 1], name="made"))
    return b.model(b.op("Conv", y, b.constant(floats(np.ones((1, 3, 1, 1))), "read"), kernel_shape=[1, 1]))


def test_planted_ranks_are_found() -> None:
    rng = np.random.default_rng(0)
    flat = np.stack([np.outer(*rng.random((2, 8))) for _ in range(4)])
    blocks = np.kron(np.eye(3), np.ones((2, 2)))
    blocks = np.stack([np.pad(blocks * factor, (0, 2)) for factor in (1, 2, 3, 4)])
    source = ArraySource({"x": floats(np.stack([flat, blocks], axis=1))})

    (score,) = scored(planted(), "hrank", source=source).values()

    assert score[2] == 0
    assert score[1] / score[0] == pytest.approx(3, rel=0.2)  # 3 and 1, each with less than 1/8 for the norm


def test_norms_decide_between_equal_ranks_only() -> None:
    spectra = Spectra(10, np.array([2.0, 2.0, 1.9, 0.0]), np.array([1.0, 3.0, 900.0, 0.0]))

    score = ranked(spectra)

    assert np.argsort(score).tolist() == [3, 2, 0, 1]
    assert tie_share(spectra) == 0.5


def test_stronger_filters_whose_norm_takes_it_back_score_the_same() -> None:
    model = tower((8, 12, 6))
    louder, factors = model.clone(), floats([4] * 3 + [1] * 9)
    (norm,) = (node for node in louder.graph.nodes if node.inputs[0].name == "conv1_out")
    mean, variance = norm.inputs[3].name, norm.inputs[4].name
    for name, factor in (("w_8", factors[:, None, None, None]), (mean, factors), (variance, factors**2)):
        louder.weights[name] = floats(louder.weights[name]) * factor

    rank, size = ((scored(model, name)["w_8[0]"], scored(louder, name)["w_8[0]"]) for name in ("hrank", "l1"))

    np.testing.assert_allclose(*rank, rtol=1e-3)
    assert (size[1][:3] > size[0][:3] * 1.2).all()


@pytest.fixture(scope="module")
def digits() -> tuple[Model, ArraySource, ArraySource]:
    """The shipped residual net and two sets of images that share none."""
    pytest.importorskip("sklearn")
    from graphrewrite.models.digits import train

    (images, _), model = train(), Model.load(models.shipped("digits_resnet"))
    return (
        model,
        ArraySource({"image": images["image"][:100]}),
        ArraySource({"image": images["image"][100:200]}),
    )


def test_ranks_hardly_depend_on_which_images_were_looked_at(
    digits: tuple[Model, ArraySource, ArraySource],
) -> None:
    model, one, two = digits
    maps = {tap.tensor for group in groups(model) for tap in group.taps}
    shapes = {name: array.shape for name, array in run(model, dict(one.arrays), sorted(maps)).items()}
    first, second = (scored(model, "hrank", source=source) for source in (one, two))

    compared = [
        spearmanr(first[group.name], second[group.name]).statistic
        for group in groups(model)
        if min(shapes[tap.tensor][-1] for tap in group.taps) >= 8
    ]

    assert len(compared) >= 3
    assert min(compared) > 0.9


def test_the_accumulator_is_not_told_what_it_is_for() -> None:
    """A mutation: without the tie-break every channel of full rank scores the same, and the loop above sees it."""
    maps = np.random.default_rng(1).random((4, 5, 6, 6)).astype(np.float32)
    rank = Rank()
    rank.update(maps)

    assert len(set(rank.result().rank)) == 1
    assert len(set(ranked(rank.result()))) == 5
    np.testing.assert_allclose(ranked(rank.result()), one_by_one(maps.astype(np.float64)), rtol=1e-9)
