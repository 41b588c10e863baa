"""Losses of online distillation: by slow readings of their formulas, and who may learn from whom."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from graphrewrite.bridge.losses import Batch
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.passes.losses.attention_diversity import AttentionDiversity, risen, turned
from graphrewrite.passes.losses.feature_fusion import FeatureFusion
from graphrewrite.passes.losses.mutual_learning import MutualLearning


def softened(scores: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in scores]
    return [power / sum(powers) for power in powers]


def divergence(wanted: list[float], found: list[float], temperature: float) -> float:
    p, q = softened(wanted, temperature), softened(found, temperature)
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_each_learns_from_the_mean_of_its_divergences_from_the_others() -> None:
    rows = {"a": [3.0, 0.0], "b": [0.0, 2.0], "c": [0.5, 1.5]}  # none adds up to 1: no probabilities
    batch = Batch({name: torch.tensor([row]) for name, row in rows.items()})
    want = sum(divergence(rows[other], rows[own], 2.0) / 2 for own in rows for other in rows if other != own)
    assert float(MutualLearning(("a", "b", "c"), 2.0)(batch)) == pytest.approx(want, rel=1e-5)


def test_who_teaches_is_not_moved() -> None:
    # The gradient of a divergence for the scores that learn is t (softmax(own / t) - softmax(other / t)).
    own, other = (torch.tensor([row], requires_grad=True) for row in ([3.0, 0.0], [0.0, 2.0]))
    MutualLearning(("a", "b"), 2.0)(Batch({"a": own, "b": other})).backward()
    p, q = softened([3.0, 0.0], 2.0), softened([0.0, 2.0], 2.0)
    assert own.grad is not None
    assert own.grad[0].tolist() == pytest.approx([2 * (a - b) for a, b in zip(p, q, strict=True)], rel=1e-5)


# A map of six places and one channel: squares 1 to 36, of which the two weakest are kept.
FEATURES = torch.tensor([[[[3.0, 1.0, 2.0], [6.0, 5.0, 4.0]]]])
SQUARES = [9.0, 1.0, 4.0, 36.0, 25.0, 16.0]


def by_hand() -> list[float]:
    length = math.sqrt(sum(value**2 for value in SQUARES))
    found = []
    for value in SQUARES:
        y = value / length
        found.append(y if value < 4 else length / 2 if value == 4 else length - y)
    return found


def test_the_turned_map_is_strong_where_the_other_is_weak() -> None:
    assert turned(FEATURES)[0].tolist() == pytest.approx(by_hand(), rel=1e-6)


def reachable() -> torch.Tensor:
    """Features whose turned map has length 1, which most have not: three places, looked at as (a, b, b) * n.

    The weakest is turned to n / 2 and the others to n - b: length 1 where 9/4 n^2 - 4 b n - a^2 = 0.
    """
    a, b = 0.2, math.sqrt(0.48)
    n = (4 * b + math.sqrt(16 * b**2 + 9 * a**2)) / 4.5
    return torch.tensor([[[[n * a, n * b, n * b]]]]).sqrt()


def test_the_loss_is_zero_where_attention_is_the_target_and_nowhere_else() -> None:
    loss = AttentionDiversity(("before", "own"))
    target = turned(reachable())
    assert float(target.norm()) == pytest.approx(1, abs=1e-6)
    looks = target.sqrt().reshape(1, 1, 1, 3)
    for size in (1.0, 5.0):  # how strong the features are does not matter
        assert float(loss(Batch({"before": reachable(), "own": size * looks}))) == pytest.approx(0, abs=1e-12)
    for place in range(3):
        other = looks.clone()
        other[..., place] *= 1.1
        assert float(loss(Batch({"before": reachable(), "own": other}))) > 1e-4
    assert float(loss(Batch({"before": reachable(), "own": reachable()}))) > 0.01


def test_the_net_before_is_not_moved_and_the_first_never() -> None:
    maps = {name: torch.rand(2, 3, 2, 3, requires_grad=True) for name in "abc"}
    AttentionDiversity(("a", "b", "c"))(Batch(maps)).backward()
    assert maps["a"].grad is None
    for name in "bc":
        grad = maps[name].grad
        assert grad is not None and float(grad.abs().max()) > 0


def test_the_weight_rises_to_one() -> None:
    assert risen(0.0, 0.5) == pytest.approx(math.exp(-5))
    assert risen(0.25, 0.5) == pytest.approx(math.exp(-1.25))
    assert risen(0.5, 0.5) == risen(0.9, 0.5) == risen(0.0, 0.0) == 1.0
    maps = {"a": FEATURES, "b": FEATURES + 1}
    whole, begun = (
        float(AttentionDiversity(("a", "b"), ramp=0.5)(Batch(maps, done=done))) for done in (1.0, 0.0)
    )
    assert begun == pytest.approx(whole * math.exp(-5))


LEADER = ("", "s1/", "s2/")


def batch_of(loss: FeatureFusion, seed: int = 0, samples: int = 4) -> Batch:
    """Maps [., 4, 8, 6] and [., 6, 4, 3] and three scores of a leader and two students."""
    torch.manual_seed(seed)
    student = {}
    for prefix in LEADER:
        for name, shape in {"z": (3,), "low": (4, 8, 6), "high": (6, 4, 3)}.items():
            student[f"{prefix}{name}"] = torch.rand(samples, *shape).requires_grad_()
    batch = Batch(student, labels=torch.arange(samples) % 3, outputs=("z",))
    return replace(batch, net=loss.net(batch))


LOSS = FeatureFusion(("low", "high"), ("s1/", "s2/"), "z")


def learned(loss: FeatureFusion) -> set[str]:
    """Return the tensors that get a gradient that is not zero, and the modules."""
    batch = batch_of(LOSS)
    loss(batch).backward()
    assert batch.net is not None
    tensors = {**batch.student, **dict(batch.net.named_parameters())}
    moved = {
        name for name, tensor in tensors.items() if tensor.grad is not None and float(tensor.grad.abs().max())
    }
    return {".".join(name.split(".")[:2]) if "decoders" in name else name.split(".")[0] for name in moved}


def test_the_modules_and_the_leader_learn_and_only_a_student_s_shallow_maps() -> None:
    # A student learns from its labels and the others by losses of their own; here by where its decoder looks.
    modules = {"fuse", "score", "foretell", "decoders.0", "decoders.1"}
    assert learned(LOSS) == modules | {"z", "low", "high", "s2/low"}


@pytest.mark.parametrize(
    ("off", "rest"),
    [
        ({"fusion": 0.0}, {"z", "s2/low"}),
        ({"diversity": 0.0}, {"z", "low", "high"}),
        ({"distill": 0.0}, {"low", "high", "s2/low"}),
        ({"distill": 0.0, "fusion": 0.0, "diversity": 0.0, "decoding": 0.0}, set()),
    ],
)
def test_a_weight_of_zero_is_nothing_to_learn(off: dict[str, float], rest: set[str]) -> None:
    kept = {"low", "high", "z", "s2/low", "s1/low", "s1/high", "s2/high", "s1/z", "s2/z"}
    assert learned(replace(LOSS, **off)) & kept == rest  # type: ignore[arg-type]


def at_length_one(row: torch.Tensor) -> torch.Tensor:
    return row / row.square().sum().sqrt()


def test_the_leader_s_part_by_a_slow_reading() -> None:
    """One sample at a time, each term written down; norms in evaluation, as one sample has no variance."""
    loss = replace(LOSS, diversity=0.0, decoding=0.0)
    batch = batch_of(loss)
    assert batch.net is not None and batch.labels is not None
    net = batch.net.eval()
    total = 0.0
    for number in range(4):
        at = {name: tensor[number : number + 1].detach() for name, tensor in batch.student.items()}
        seen = torch.cat([at["s1/high"], at["s2/high"]], dim=1)
        fused = net.get_submodule("fuse")(seen)
        scores = net.get_submodule("score")(fused.mean(dim=(2, 3)))[0].tolist()
        mean = ((at["s1/z"] + at["s2/z"]) / 2)[0].tolist()
        total -= math.log(softened(scores, 1.0)[int(batch.labels[number])])
        total += divergence(mean, scores, 2.0) + divergence(scores, at["z"][0].tolist(), 2.0)
        drawn = net.get_submodule("decoders.0.0")(fused)
        assert drawn.shape == at["low"].shape
        told = net.get_submodule("foretell")(at["high"])
        for one, other in ((at["high"], fused), (told, seen), (at["low"], drawn)):
            looks = [at_length_one(maps[0].square().mean(dim=0)) for maps in (one, other)]
            total += 10.0 * float((looks[0] - looks[1]).square().mean().detach())
    assert float(loss(batch).detach()) == pytest.approx(total / 4, rel=1e-4)


def test_decoders_draw_as_they_would_serve_while_they_learn() -> None:
    batch = batch_of(LOSS)
    assert batch.net is not None
    norm = batch.net.get_submodule("decoders.0.0.1")
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    before = norm.running_mean.clone()
    LOSS(batch)
    assert norm.training
    # Moved once, by the net's own maps, and not by what the leader is shown.
    drawn = batch.net.get_submodule("decoders.0.0.0")(batch.student["high"].detach())
    torch.testing.assert_close(norm.running_mean, 0.9 * before + 0.1 * drawn.mean(dim=(0, 2, 3)))


def test_maps_that_cannot_be_drawn_from_each_other_are_refused() -> None:
    batch = batch_of(LOSS)
    student = {**batch.student, "low": torch.rand(4, 4, 9, 6)}
    with pytest.raises(InvalidData, match="whole number"):
        LOSS.net(replace(batch, student=student))
    with pytest.raises(InvalidData, match="height"):
        LOSS.net(replace(batch, student={**batch.student, "low": torch.rand(4, 4, 9)}))
    with pytest.raises(InvalidData, match="three or more"):
        turned(torch.rand(2, 3, 1, 2))
    with pytest.raises(InvalidData, match="same places"):
        AttentionDiversity(("a", "b"))(Batch({"a": FEATURES, "b": torch.rand(1, 1, 3, 3)}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: FeatureFusion(),
        lambda: FeatureFusion(("low",), "s1/"),  # type: ignore[arg-type]
        lambda: FeatureFusion(("low",), ("s1/",), temperature=0.0),
        lambda: FeatureFusion(("low",), ("s1/",), ramp=-1.0),
        lambda: AttentionDiversity(("a",)),
        lambda: MutualLearning(("a", "a")),
        lambda: MutualLearning(("a", "b"), temperature=0.0),
    ],
)
def test_impossible_settings_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(InvalidConfig):
        make()
