"""Variational self-distillation: what its divergence is, proven on tables, and who learns from it."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from graphrewrite.bridge.losses import Batch
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.passes.losses.soft_labels import divergence
from graphrewrite.passes.losses.vsd import Vsd, pooled

Table = npt.NDArray[np.float64]


def information(joint: Table) -> float:
    """Mutual information of a table p(a, b), by its definition."""
    total = 0.0
    for a in range(joint.shape[0]):
        for b in range(joint.shape[1]):
            if joint[a, b] > 0:
                total += joint[a, b] * np.log(joint[a, b] / (joint[a].sum() * joint[:, b].sum()))
    return total


def tables(seed: int, labels: int = 3, wide: int = 5, narrow: int = 4) -> tuple[Table, Table]:
    """Return p(v, y) and p(z | v) at random."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(wide * labels)).reshape(wide, labels), rng.dirichlet(np.ones(narrow), wide)


def expected(joint: Table, channel: Table, swapped: bool = False) -> float:
    """The loss's divergence of log P(y | z) from log P(y | v), over all pairs by their probability."""
    of_wide = np.log(joint / joint.sum(axis=1, keepdims=True))
    with_narrow = channel.T @ joint
    of_narrow = np.log(with_narrow / with_narrow.sum(axis=1, keepdims=True))
    total = 0.0
    for v, z in np.ndindex(channel.shape):
        scores, wanted = torch.tensor(of_narrow[z : z + 1]), torch.tensor(of_wide[v : v + 1])
        pair = (wanted, scores) if swapped else (scores, wanted)
        total += joint[v].sum() * channel[v, z] * float(divergence(*pair))
    return total


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_divergence_is_the_information_that_the_narrow_layer_lost(seed: int) -> None:
    joint, channel = tables(seed)
    lost = information(joint) - information(channel.T @ joint)
    assert lost > 0.01
    assert expected(joint, channel) == pytest.approx(lost, abs=1e-6)  # the loss computes in float32
    assert abs(expected(joint, channel, swapped=True) - lost) > 1e-3


def test_nothing_is_lost_where_the_narrow_layer_can_be_inverted() -> None:
    joint, _ = tables(7)
    assert expected(joint, np.eye(5)[[3, 0, 4, 1, 2]]) == pytest.approx(0, abs=1e-6)


def batch_of(loss: Vsd, samples: int = 6) -> Batch:
    torch.manual_seed(0)
    student = {
        "out": torch.randn(samples, 4),
        "wide": torch.randn(samples, 8, 2, 2),
        "narrow": torch.randn(samples, 3),
    }
    batch = Batch(
        {name: tensor.requires_grad_() for name, tensor in student.items()},
        labels=torch.arange(samples) % 4,
        outputs=("out",),
    )
    return replace(batch, net=loss.net(batch).eval())


def gradients(loss: Vsd, share_of_labels: float) -> dict[str, torch.Tensor | None]:
    """Gradients of the loss for what may learn; `share_of_labels` scales the classifiers' own part."""
    batch = batch_of(loss)
    replace(loss, labels=share_of_labels)(batch).backward()
    assert batch.net is not None
    found: dict[str, torch.Tensor | None] = {name: tensor.grad for name, tensor in batch.student.items()}
    return found | {name: tensor.grad for name, tensor in batch.net.named_parameters()}


@pytest.mark.parametrize("representation", ["", "narrow"])
def test_the_divergence_teaches_the_narrow_side_only(representation: str) -> None:
    # What is linear in the labels' share is the classifiers' own part; what is left is the divergence.
    loss = Vsd("wide", representation)
    one, two = gradients(loss, 1.0), gradients(loss, 2.0)
    rest = {
        name: 2 * first - second
        for name, first in one.items()
        if first is not None and (second := two[name]) is not None
    }
    for name in ("wide", "wide.weight", "wide.bias"):
        torch.testing.assert_close(rest[name], torch.zeros_like(rest[name]), atol=1e-6, rtol=0)
    learner = "narrow" if representation else "out"
    assert float(rest[learner].abs().max()) > 1e-3


def test_both_classifiers_learn_by_the_labels() -> None:
    loss = Vsd("wide", "narrow", smoothing=0.0)
    batch = batch_of(loss)
    assert batch.net is not None and batch.labels is not None
    wide = batch.net.get_submodule("wide")(batch.student["wide"].mean(dim=(2, 3)))
    narrow = batch.net.get_submodule("narrow")(batch.student["narrow"])
    own = nn.functional.cross_entropy(wide, batch.labels) + nn.functional.cross_entropy(narrow, batch.labels)
    want = divergence(narrow, wide) + 0.5 * own
    assert float(loss(batch).detach()) == pytest.approx(float(want.detach()), rel=1e-6)


def test_what_has_no_channels_or_no_classes_is_refused() -> None:
    batch = Batch({"out": torch.zeros(2, 3, 4), "flat": torch.zeros(2)}, outputs=("out",))
    with pytest.raises(InvalidData, match="samples, classes"):
        Vsd("out").net(batch)
    with pytest.raises(InvalidData, match="channels"):
        pooled(batch, "flat")


@pytest.mark.parametrize(
    "fields", [{}, {"observation": "v", "labels": 0.0}, {"observation": "v", "smoothing": 1.0}]
)
def test_impossible_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig):
        Vsd(**fields)  # type: ignore[arg-type]
