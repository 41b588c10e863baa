"""Each loss against numbers worked out by hand, and what every loss must be for the training loop."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from graphrewrite.bridge.losses import Batch, LearnedLoss, Loss, Needs, class_axis, losses
from graphrewrite.errors import InvalidConfig, InvalidData, UnknownNameError
from graphrewrite.passes.losses.attention_transfer import AttentionTransfer
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.feature_match import FeatureMatch
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.passes.losses.mutual_learning import MutualLearning
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.passes.losses.vml import Vml
from graphrewrite.serial import from_json, to_json


def scores(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)


def one_output(
    student: torch.Tensor,
    teacher: torch.Tensor | None = None,
    labels: Sequence[float] | Sequence[Sequence[int]] | None = None,
) -> Batch:
    taught = {} if teacher is None else {"out": teacher.detach()}
    known = None if labels is None else torch.tensor(labels)
    return Batch({"out": student}, taught, known, ("out",))


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def test_cross_entropy_is_minus_the_log_of_the_share_of_the_label() -> None:
    batch = one_output(scores([1.0, 2.0, 0.0], [0.0, 0.0, 3.0]), labels=[1, 2])
    want = -(math.log(softmax([1, 2, 0], 1)[1]) + math.log(softmax([0, 0, 3], 1)[2])) / 2
    assert float(CrossEntropy()(batch)) == pytest.approx(want, rel=1e-6)


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    batch = one_output(scores([1.0, 2.0, 0.0]), labels=[1])
    logs = [math.log(share) for share in softmax([1, 2, 0], 1)]
    want = -(0.9 * logs[1] + 0.1 * sum(logs) / 3)
    assert float(CrossEntropy(smoothing=0.1)(batch)) == pytest.approx(want, rel=1e-6)


def test_under_smoothing_scores_end_at_the_gap_of_the_closed_form() -> None:
    # ten classes, a share of 0.1: the true class is ahead by log(1 + 10 * 0.9 / 0.1) = log 91.
    found = torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([found], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12)

    def again() -> float:
        optimiser.zero_grad()
        loss = CrossEntropy(smoothing=0.1)(one_output(found, labels=[3]))
        loss.backward()
        return float(loss.detach())

    optimiser.step(again)
    scores = found.detach().numpy()[0]
    ahead = scores[3] - np.delete(scores, 3)
    np.testing.assert_allclose(ahead, math.log(91), atol=1e-3)


def test_soft_labels_are_the_divergence_times_the_temperature_squared() -> None:
    student, teacher = [1.0, 2.0, 0.0], [3.0, 0.0, 1.0]
    p, q = softmax(teacher, 4.0), softmax(student, 4.0)
    want = 16 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    batch = one_output(scores(student), torch.tensor([teacher]))
    assert float(SoftLabels(temperature=4.0)(batch)) == pytest.approx(want, rel=1e-5)
    assert float(SoftLabels()(one_output(scores(teacher), torch.tensor([teacher])))) == pytest.approx(
        0, abs=1e-6
    )


def test_mse_takes_targets_without_their_last_axis() -> None:
    assert float(Mse()(one_output(scores([1.0], [4.0]), labels=[3.0, 4.0]))) == 2.0


def test_a_softmax_in_the_graph_changes_no_loss() -> None:
    own, other = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[3.0, 0.0, 1.0]])
    plain, ended = one_output(own, other, [1]), one_output(own.softmax(1), other.softmax(1), [1])
    for loss in (CrossEntropy(), CrossEntropy(smoothing=0.1), SoftLabels(4.0)):
        assert float(loss(ended)) == pytest.approx(float(loss(plain)), rel=1e-5)
    half = one_output(own.softmax(1) / 2, labels=[1])  # no probabilities
    assert float(CrossEntropy()(half)) != pytest.approx(float(CrossEntropy()(plain)), rel=0.1)


def test_a_teachers_numbers_are_targets_too() -> None:
    batch = one_output(scores([1.0], [4.0]), teacher=torch.tensor([[3.0], [4.0]]))
    assert float(Mse(of="teacher")(batch)) == 2.0
    assert Mse(of="teacher").needs == Needs(teacher=()) and Mse().needs == Needs(labels=True)


def test_language_models_score_their_classes_last() -> None:
    # Two steps of one sample, three words: the same two rows as scores of two samples.
    rows, labels = [[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]], [1, 2]
    want = float(CrossEntropy()(one_output(torch.tensor(rows), labels=labels)))
    steps = Batch({"out": torch.tensor([rows])}, {}, torch.tensor([labels]), ("out",))
    assert float(CrossEntropy()(steps)) == pytest.approx(want, rel=1e-6)
    first = Batch({"out": torch.tensor([rows]).mT}, {}, torch.tensor([labels]), ("out",))
    assert float(CrossEntropy()(first)) == pytest.approx(
        want, rel=1e-6
    )  # [samples, classes, steps]: the labels tell

    other = torch.tensor([[[0.0, 1.0, 5.0], [2.0, 0.0, 0.0]]])
    taught = float(SoftLabels(2.0)(one_output(torch.tensor([rows]), other)))
    assert taught == pytest.approx(float(SoftLabels(2.0)(one_output(torch.tensor(rows), other[0]))), rel=1e-5)
    turned = SoftLabels(2.0, axis=1)(one_output(torch.tensor([rows]).mT, other.mT))
    assert float(turned) == pytest.approx(taught, rel=1e-6)


@pytest.mark.parametrize(
    ("shape", "labels", "axis"),
    [
        ((8, 10), None, 1),
        ((8, 12, 80), None, 2),
        ((8, 4, 32, 32), None, 1),
        ((8,), None, None),
        ((8, 10), (8,), 1),
        ((8, 4, 12), (8, 12), 1),
        ((8, 12, 4), (8, 12), 2),
        ((8, 12, 12), (8, 12), 2),
        ((8, 32, 32, 4), (8, 32, 32), 3),
        ((8, 10), (8, 1), None),
        ((8, 10), (8, 10), None),
    ],
)
def test_the_axis_of_classes(
    shape: tuple[int, ...], labels: tuple[int, ...] | None, axis: int | None
) -> None:
    assert class_axis(shape, labels) == axis


def test_features_are_compared_as_they_are_or_by_direction() -> None:
    student, teacher = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    batch = Batch({"a": student}, {"b": teacher}, outputs=("a",))
    assert float(FeatureMatch({"a": "b"})(batch)) == (9 + 4) / 2
    # Unit vectors (0.6, 0.8) and (0, 1).
    assert float(FeatureMatch({"a": "b"}, scale="unit")(batch)) == pytest.approx(0.36 + 0.04)


def test_attention_may_have_other_channels_but_not_other_places() -> None:
    # One place of two is looked at by the student, both equally by the teacher: maps (1, 0) and (1, 1) / sqrt 2.
    student = torch.tensor([[[2.0, 0.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    batch = Batch({"a": student}, {"b": teacher}, outputs=("a",))
    root = 1 / math.sqrt(2)
    want = ((1 - root) ** 2 + root**2) / 2
    assert float(AttentionTransfer({"a": "b"})(batch)) == pytest.approx(want, rel=1e-6)
    wider = Batch({"a": torch.ones(1, 1, 3)}, {"b": teacher}, outputs=("a",))
    with pytest.raises(InvalidData, match="same places"):
        AttentionTransfer({"a": "b"})(wider)


@pytest.mark.parametrize(
    ("loss", "batch", "message"),
    [
        (CrossEntropy(), one_output(scores([1.0, 2.0]), labels=[2]), "labels from 2 to 2"),
        (CrossEntropy(), one_output(scores([1.0, 2.0]), labels=[1, 1]), r"shape \[2\]"),
        (CrossEntropy(), one_output(scores([1.0, 2.0]), labels=[[0, 1]]), "argmax of one-hot rows"),
        (CrossEntropy(), one_output(scores([1.0, 2.0]), labels=[0.7]), "numbers such as 0.7.*mse"),
        (
            CrossEntropy(),
            Batch(
                {"box": scores([0.0, 1.0]), "kind": scores([0.0] * 9)}, {}, torch.tensor([7]), ("box", "kind")
            ),
            "other scores in the loss's tensor: kind",
        ),
        (Mse(), one_output(scores([1.0, 2.0]), labels=[1.0]), "targets"),
        (SoftLabels(), one_output(scores([1.0]), torch.zeros(1, 1)), 'scores no classes.*mse of="teacher"'),
        (
            MutualLearning(("a", "b")),
            Batch({"a": torch.zeros(1, 2), "b": torch.zeros(1, 3)}, outputs=("a", "b")),
            r"'a' has the shape \[1, 2\] and 'b' has \[1, 3\]",
        ),
        (
            Vml(("a", "b")),
            Batch({"a": torch.zeros(1, 2), "b": torch.zeros(1, 3)}, outputs=("a", "b")),
            "the same classes",
        ),
        (SoftLabels(axis=3), one_output(scores([1.0, 2.0]), torch.zeros(1, 2)), "along axis 3"),
        (SoftLabels(), one_output(scores([1.0, 2.0]), torch.zeros(1, 3)), r"the teacher's has \[1, 3\]"),
        (
            FeatureMatch({"out": "out"}),
            one_output(scores([1.0, 2.0]), torch.zeros(1, 3)),
            "left whole",
        ),
    ],
)
def test_what_does_not_fit_is_refused(loss: Loss, batch: Batch, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        loss(batch)


def test_a_tensor_the_teacher_does_not_give_is_named() -> None:
    with pytest.raises(UnknownNameError, match="'out'"):
        SoftLabels()(one_output(scores([1.0, 2.0])))


@pytest.mark.parametrize(
    "make",
    [
        lambda: CrossEntropy(smoothing=1.0),
        lambda: SoftLabels(temperature=0.0),
        lambda: Mse(of="pupil"),  # type: ignore[arg-type]
        lambda: FeatureMatch(),
        lambda: AttentionTransfer({}),
    ],
)
def test_impossible_settings_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(InvalidConfig):
        make()


FIELDS: Mapping[str, Mapping[str, object]] = {
    "feature_match": {"pairs": {"mid": "mid"}},
    "attention_transfer": {"pairs": {"mid": "mid"}},
    "skt": {"pairs": {"mid": "mid"}},
    "vsd": {"observation": "mid", "representation": "out"},
    "mutual_learning": {"tensors": ("out", "s/out")},
    "attention_diversity": {"tensors": ("mid", "s/mid")},
    "vcd": {"observations": ("mid", "s/mid"), "scores": ("out", "s/out")},
    "vml": {"scores": ("out", "s/out")},
    "feature_fusion": {"maps": ("mid",), "students": ("s/",), "tensor": "out"},
}


def filled(name: str, samples: int, seed: int = 0) -> Batch:
    """Return a batch that serves every registered loss."""
    rng = np.random.default_rng(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape))

    labels = torch.from_numpy(rng.integers(0, 5, samples))
    if name == "mse":
        labels = drawn(samples, 5)
    student = {"out": drawn(samples, 5), "mid": drawn(samples, 3, 4, 4)}
    student |= {f"s/{name}": drawn(*tensor.shape) for name, tensor in student.items()}
    teacher = {"out": drawn(samples, 5), "mid": drawn(samples, 3, 4, 4)}
    loss = losses.make(name, **FIELDS.get(name, {}))
    weights = {name: drawn(2, 6) for name in loss.needs.weights}
    batch = Batch(student, teacher, labels, ("out",), weights=weights)
    if not isinstance(loss, LearnedLoss):
        return batch
    torch.manual_seed(seed)
    return replace(batch, net=loss.net(batch).eval().requires_grad_(False))


def part(batch: Batch, start: int, stop: int) -> Batch:
    assert batch.labels is not None
    return replace(
        batch,
        student={name: tensor[start:stop] for name, tensor in batch.student.items()},
        teacher={name: tensor[start:stop] for name, tensor in batch.teacher.items()},
        labels=batch.labels[start:stop],
    )


@pytest.mark.parametrize("name", list(losses))
def test_a_loss_is_a_mean_over_samples(name: str) -> None:
    # The training loop spreads a batch over processes and passes and adds up the parts by their share.
    loss = losses.make(name, **FIELDS.get(name, {}))
    whole = filled(name, 6)
    parts = float(loss(part(whole, 0, 2))) * 2 / 6 + float(loss(part(whole, 2, 6))) * 4 / 6
    assert float(loss(whole)) == pytest.approx(parts, rel=1e-6)
    assert float(loss(whole)) > 0


@pytest.mark.parametrize("name", list(losses))
def test_a_loss_reads_what_it_asked_for_and_has_a_gradient(name: str) -> None:
    loss = losses.make(name, **FIELDS.get(name, {}))
    whole = filled(name, 4)
    needs = loss.needs
    student = {
        key: tensor.clone().requires_grad_()
        for key, tensor in whole.student.items()
        if key in (*needs.student, "out")
    }
    teacher = {key: tensor for key, tensor in whole.teacher.items() if key in (*(needs.teacher or ()), "out")}
    weights = {key: tensor.clone().requires_grad_() for key, tensor in whole.weights.items()}
    batch = replace(
        whole,
        student=student,
        teacher={} if needs.teacher is None else teacher,
        labels=whole.labels if needs.labels else None,
        weights=weights,
    )
    loss(batch).backward()
    read = (*weights.values(), *([] if needs.weights else student.values()))
    assert read
    assert any(tensor.grad is not None and bool(tensor.grad.abs().sum() > 0) for tensor in read)


@pytest.mark.parametrize("name", list(losses))
def test_a_loss_survives_json(name: str) -> None:
    loss = losses.make(name, **FIELDS.get(name, {}))
    assert from_json(to_json(loss, Loss), Loss) == loss
