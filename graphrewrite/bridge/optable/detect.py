"""Choosing boxes among many that mean the same."""

import torch

from graphrewrite.bridge.forms import op


@op(
    "NonMaxSuppression",
    since=10,
    host=("max_output_boxes_per_class", "iou_threshold", "score_threshold"),
    gradient=False,
)
def non_max_suppression(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    max_output_boxes_per_class: float | tuple[float, ...] | None = None,
    iou_threshold: float | tuple[float, ...] | None = None,
    score_threshold: float | tuple[float, ...] | None = None,
    *,
    center_point_box: int = 0,
) -> torch.Tensor:
    """Return [image, class, box] of the boxes to keep, by falling score in a class; equal scores keep their order."""
    most = _single(max_output_boxes_per_class)
    corners = _corners(boxes, center_point_box)
    least = None if score_threshold is None else _single(score_threshold)
    kept = [torch.zeros(0, 3, dtype=torch.int64, device=boxes.device)]
    for image in range(scores.shape[0]):
        for kind in range(scores.shape[1]):
            chosen = _chosen(corners[image], scores[image, kind], most, _single(iou_threshold), least)
            if chosen:
                found = torch.stack(chosen)
                labels = found.new_tensor((image, kind)).expand(len(chosen), 2)
                kept.append(torch.cat((labels, found[:, None]), 1))
    return torch.cat(kept)


def _chosen(
    boxes: torch.Tensor, scores: torch.Tensor, most: float, overlap: float, least: float | None
) -> list[torch.Tensor]:
    left = torch.sort(scores, descending=True, stable=True).indices
    if least is not None:
        left = left[scores[left] > least]
    chosen: list[torch.Tensor] = []
    while len(chosen) < most and len(left):
        chosen.append(left[0])
        left = left[1:]
        left = left[_overlap(boxes[chosen[-1]], boxes[left]) <= overlap]
    return chosen


def _overlap(box: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the area two boxes share by the area they cover; a box without area shares nothing."""
    sides = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])).clamp_min(0.0)
    shared = sides.prod(1)
    one, two = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(1)
    covered = one + two - shared
    counts = (shared > 0) & (one > 0) & (two > 0)
    return torch.where(counts, shared / covered, 0.0)


def _corners(boxes: torch.Tensor, centred: int) -> torch.Tensor:
    """Return boxes as two corners each, the smaller numbers first."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        return torch.cat((first - second / 2, first + second / 2), -1)
    return torch.cat((torch.minimum(first, second), torch.maximum(first, second)), -1)


def _single(value: float | tuple[float, ...] | None) -> float:
    if isinstance(value, tuple):
        return value[0] if value else 0
    return 0 if value is None else value
