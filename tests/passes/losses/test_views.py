"""Losses of two views: by hand, by symmetry, by their bounds, and who learns from whom."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from graphrewrite.bridge.losses import Batch
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.losses.soft_labels import divergence
from graphrewrite.passes.losses.vcd import Vcd
from graphrewrite.passes.losses.vml import Vml


def mutual(one: list[float], other: list[float]) -> float:
    return float(Vml(("a", "b"))(Batch({"a": torch.tensor([one]), "b": torch.tensor([other])})))


def test_mutual_learning_is_the_mean_divergence_from_the_middle() -> None:
    p, q = [0.5, 0.25, 0.25], [0.125, 0.75, 0.125]
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    want = sum(sum(a * math.log(a / b) for a, b in zip(own, middle, strict=True)) / 2 for own in (p, q))
    logs = ([math.log(a) for a in p], [math.log(b) for b in q])
    assert mutual(*logs) == pytest.approx(want, rel=1e-5)
    assert mutual(*logs) == pytest.approx(mutual(*logs[::-1]), rel=1e-6)


def test_it_is_zero_for_one_answer_and_at_most_log_2() -> None:
    assert mutual([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]) == pytest.approx(0, abs=1e-7)
    assert mutual([80.0, 0.0, 0.0], [0.0, 0.0, 80.0]) == pytest.approx(math.log(2), rel=1e-6)


LOSS = Vcd(("v1", "v2"), ("z1", "z2"))


def views(seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    student = {f"v{k}": torch.randn(5, 6).requires_grad_() for k in (1, 2)}
    student |= {f"z{k}": torch.randn(5, 3).requires_grad_() for k in (1, 2)}
    batch = Batch(student, labels=torch.arange(5) % 3)
    return replace(batch, net=LOSS.net(batch))


def test_each_view_learns_from_the_other_s_observation() -> None:
    batch = views()
    assert batch.net is not None and batch.labels is not None
    wide = [batch.net(batch.student[f"v{k}"]).detach() for k in (1, 2)]
    want = divergence(batch.student["z1"], wide[1]) + divergence(batch.student["z2"], wide[0])
    want = want + 0.5 * sum(
        nn.functional.cross_entropy(scores, batch.labels, label_smoothing=0.1) for scores in wide
    )
    assert float(LOSS(batch).detach()) == pytest.approx(float(want.detach()), rel=1e-5)


def test_the_divergence_does_not_move_the_observations() -> None:
    # What is left of the gradient when the labels' part, which is linear in its share, is taken off.
    found = []
    for share in (1.0, 2.0):
        batch = views()
        replace(LOSS, labels=share)(batch).backward()
        assert batch.net is not None
        found.append({**batch.student, **dict(batch.net.named_parameters())})
    for name in ("v1", "v2", "weight", "bias", "z1"):
        one, two = found[0][name].grad, found[1][name].grad
        assert one is not None and two is not None
        assert (float((2 * one - two).abs().max()) < 1e-6) is (name != "z1")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Vcd(),
        lambda: Vcd(("a", "b"), ("c",)),
        lambda: Vcd(("a", "b", "c"), ("d", "e")),
        lambda: replace(LOSS, labels=0.0),
        lambda: Vml(("a", "a")),
        lambda: Vml(("a", "b", "c")),
    ],
)
def test_impossible_settings_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(InvalidConfig):
        make()
