"""How good a model is on samples it is not trained on."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from graphrewrite.bridge.losses import Batch, class_axis
from graphrewrite.bridge.numbers import array_from
from graphrewrite.bridge.train.samples import Samples
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Array

if TYPE_CHECKING:
    from accelerate import Accelerator

    from graphrewrite.bridge.train.stage import StageRun

# Outputs of all samples by name, and their labels; larger is better.
Metric: TypeAlias = Callable[[Mapping[str, Array], Array | None], float]


@dataclass(frozen=True)
class Score:
    """One verdict: what was measured, its value (larger is better), and the losses' sum on the same samples."""

    name: str
    value: float
    loss: float


class Scorer:
    """Judges a run by samples that every process takes a share of."""

    def __init__(self, samples: Samples, metric: Metric | None, accelerator: "Accelerator") -> None:
        self.samples = samples
        self.metric = metric
        self.accelerator = accelerator

    def __call__(self, run: "StageRun") -> Score:
        """Return the score of a stage's present weights, or of their average where there is one.

        Raises:
            InvalidData: a loss needs labels, and the validation data has none.
        """
        labelled = next((loss for loss in run.stage.losses if loss.needs.labels), None)
        if labelled is not None and not self.samples.has_labels:
            raise InvalidData(
                f"{type(labelled).__name__} needs labels, and {self.samples.what} has none; expected one for each "
                "sample; give validation data with labels"
            )
        order = run.setting.feeder.order.over(len(self.samples))
        sums = torch.zeros(3, dtype=torch.float64)  # samples, losses, hits
        outputs: list[tuple[dict[str, Array], Array | None]] = []
        judges_hits = self.metric is None and self.samples.has_labels
        run.eval()
        with run.average.applied(run.live) if run.average is not None else nullcontext(), torch.no_grad():
            for numbers in order.stored():
                taken = self.samples.take(numbers)
                batch = run.batch(taken)
                sums[0] += len(numbers)
                sums[1] += len(numbers) * float(run.losses_of(batch).total)
                if judges_hits:
                    hits = _hits(batch)
                    judges_hits = hits is not None
                    sums[2] += hits or 0.0
                if self.metric is not None:
                    found = {name: array_from(batch.student[name]) for name in batch.outputs}
                    outputs.append((found, taken.labels))
        run.train()
        sums = self.accelerator.reduce(sums.to(_widest(self.accelerator.device)), "sum").cpu()
        samples, loss = float(sums[0]), float(sums[1]) / float(sums[0])
        if self.metric is not None:
            return Score("metric", self._measured(outputs), loss)
        if judges_hits:
            return Score("accuracy", float(sums[2]) / samples, loss)
        return Score("negative loss", -loss, loss)

    def _measured(self, outputs: list[tuple[dict[str, Array], Array | None]]) -> float:
        from accelerate.utils import gather_object

        assert self.metric is not None
        everywhere = gather_object(outputs) if self.accelerator.num_processes > 1 else outputs
        names = everywhere[0][0]
        labels = [labels for _, labels in everywhere if labels is not None]
        return float(
            self.metric(
                {name: np.concatenate([found[name] for found, _ in everywhere]) for name in names},
                np.concatenate(labels) if labels else None,
            )
        )


def _hits(batch: Batch) -> float | None:
    """Return how many labels the first output scores highest (a mean over places); None when it scores no classes."""
    scores, labels = batch.student[batch.outputs[0]], batch.labels
    if labels is None or labels.is_floating_point():
        return None
    axis = class_axis(scores.shape, labels.shape)
    if axis is None:
        return None
    right = (scores.argmax(axis) == labels).double()
    return float(right.flatten(1).mean(1).sum() if right.ndim > 1 else right.sum())


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
