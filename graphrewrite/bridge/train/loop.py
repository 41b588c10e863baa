"""The epochs of a stage: steps, verdicts, what is kept, written and logged."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch

from graphrewrite.bridge.recipe import Stage
from graphrewrite.bridge.train.checkpoint import Checkpoints, Saved, generators, save, set_generators
from graphrewrite.bridge.train.ema import copy_into
from graphrewrite.bridge.train.log import Log, Progress
from graphrewrite.bridge.train.score import Score, Scorer
from graphrewrite.bridge.train.stage import Carried, Setting, StageRun, names_of
from graphrewrite.errors import Diverged, InvalidConfig
from graphrewrite.serial import Json


@dataclass(frozen=True)
class Course:
    """What accompanies a run: the judge, the checkpoints with the mark of this run, the logs, who watches."""

    scorer: Scorer | None
    checkpoints: Checkpoints | None
    mark: str
    logs: Sequence[Log]
    told: Progress


class Loop:
    """One stage from its start, or from a saved state, to its end.

    Attributes:
        stage: the stage while it runs.
    """

    def __init__(
        self,
        setting: Setting,
        stage: Stage,
        number: int,
        carried: Carried,
        course: Course,
        saved: Saved | None,
    ) -> None:
        weights = carried if saved is None else Carried(saved.below("weights/"), None)
        self.stage = StageRun(setting, stage, number, weights)
        self.setting = setting
        self.course = course
        self.number = number
        self.epoch = self.step = self.taken = self.worse = 0
        self.rows = carried.rows
        self.best: float | None = None
        self.kept: dict[str, torch.Tensor] = {}
        self.sums: dict[str, float] = {}
        if saved is not None:
            self._restore(saved)
        if course.checkpoints is not None and self.stage.is_sharded:
            raise InvalidConfig(
                "a run whose weights are spread over processes writes no checkpoints; expected each process to hold "
                "the whole model; leave `checkpoint` out, or launch without FSDP"
            )
        for log in course.logs:
            log.start(self._columns(), self.rows)

    def run(self) -> Carried:
        """Train, and return what the stage leaves."""
        steps, epochs = self.setting.feeder.order.steps, self.stage.stage.epochs
        stop = self.setting.recipe.early_stop
        while self.epoch < epochs and (stop is None or self.worse < stop.patience):
            started = time.perf_counter()
            self.stage.train()
            for parts in self.setting.feeder.steps(self.stage.epochs_before + self.epoch, self.step):
                for name, value in self.stage.step(self.epoch, self.step, parts).items():
                    self.sums[name] = self.sums.get(name, 0.0) + value
                self.step += 1
                self.taken += 1
                self.course.told(f"stage {self.number + 1}", self.epoch * steps + self.step, epochs * steps)
                if self._is_due() and self.step < steps:
                    self._save()
            score = self._judge()
            self._log(score, time.perf_counter() - started)
            self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
            self._save()
        state = self.kept if self.best is not None else self.stage.result()
        return Carried(state, self.stage.places, self.rows, self.stage.learned)

    def _judge(self) -> Score | None:
        if self.course.scorer is None:
            return None
        score = self.course.scorer(self.stage)
        stop = self.setting.recipe.early_stop
        if self.best is None or score.value > self.best + (stop.least if stop is not None else 0.0):
            self.best, self.kept, self.worse = score.value, self.stage.result(), 0
        else:
            self.worse += 1
        return score

    def _log(self, score: Score | None, seconds: float) -> None:
        steps = self.setting.feeder.order.steps
        accelerator = self.setting.accelerator
        sums = torch.tensor([self.sums[name] for name in sorted(self.sums)], device=accelerator.device)
        means = accelerator.reduce(sums, "mean").cpu() / steps
        values: dict[str, float | int | str] = {
            "stage": self.number + 1,
            "epoch": self.epoch + 1,
            "rate": self.stage.stage.rate_at(self.epoch * steps + self.step - 1, steps),
            **{name: float(mean) for name, mean in zip(sorted(self.sums), means, strict=True)},
            "seconds": round(seconds, 3),
        }
        if score is not None:
            values |= {"validation loss": score.loss, "score": score.value, "measure": score.name}
        for log in self.course.logs:
            log.row(values)
        self.rows += 1

    def _columns(self) -> list[str]:
        each = [name for stage in self.setting.recipe.stages for name in names_of(stage.losses)]
        judged = ["validation loss", "score", "measure"] if self.course.scorer is not None else []
        return ["stage", "epoch", "rate", "loss", *dict.fromkeys(each), *judged, "seconds"]

    # States on disk.

    def _is_due(self) -> bool:
        where = self.course.checkpoints
        return where is not None and self.taken % where.every == 0

    def _save(self) -> None:
        """Write a state when all weights are finite.

        Raises:
            Diverged: a weight is not; the last state stays as it was.
        """
        where = self.course.checkpoints
        if where is None:
            return
        live = self.stage.live
        for name, tensor in live.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise Diverged(
                    f"the weight {name!r} is not finite after step {self.step} of epoch {self.epoch} of stage "
                    f"{self.number}; expected finite numbers; lower the rate or clip gradients (Recipe.clip); the last "
                    "checkpoint is as it was before"
                )
        from accelerate.utils import gather_object

        accelerator = self.setting.accelerator
        everywhere = gather_object([generators()])
        if not accelerator.is_main_process:
            return
        tensors = {f"weights/{name}": tensor for name, tensor in live.items()}
        if self.stage.average is not None:
            tensors |= {f"average/{name}": tensor for name, tensor in self.stage.average.kept.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.kept.items()}
        tensors |= {f"learned/{name}": tensor for name, tensor in self.stage.learned.state.items()}
        for rank, (states, _) in enumerate(everywhere):
            tensors |= {f"generator/{rank}/{name}": tensor for name, tensor in states.items()}
        inner, optimiser = _split(self.stage.optimiser.state_dict())
        tensors |= {f"optimiser/{name}": tensor for name, tensor in inner.items()}
        scaler = accelerator.scaler
        rest: dict[str, Json] = {
            "fingerprint": self.course.mark,
            "stage": self.number,
            "epoch": self.epoch,
            "step": self.step,
            "taken": self.taken,
            "rows": self.rows,
            "best": self.best,
            "worse": self.worse,
            "sums": dict(self.sums),
            "optimiser": optimiser,
            "scaler": None if scaler is None else scaler.state_dict(),
            "generators": [rest for _, rest in everywhere],
        }
        number = (self.stage.epochs_before + self.epoch) * self.setting.feeder.order.steps + self.step
        save(where, number, Saved(tensors, rest))

    def _restore(self, saved: Saved) -> None:
        rest = saved.rest
        self.epoch, self.step, self.taken, self.rows, self.worse = (
            int(str(rest[name])) for name in ("epoch", "step", "taken", "rows", "worse")
        )
        self.best = cast("float | None", rest["best"])
        self.kept = saved.below("best/")
        copy_into(self.stage.learned.state, saved.below("learned/"))
        self.sums = dict(cast("dict[str, float]", rest["sums"]))
        if self.stage.average is not None:
            self.stage.average.set(saved.below("average/"))
        self.stage.optimiser.load_state_dict(
            _joined(saved.below("optimiser/"), cast("dict[str, Json]", rest["optimiser"]))
        )
        scaler = self.setting.accelerator.scaler
        if scaler is not None and rest["scaler"] is not None:
            scaler.load_state_dict(rest["scaler"])
        rank = self.setting.accelerator.process_index
        each = cast("list[list[Json]]", rest["generators"])
        if rank < len(each):
            set_generators(saved.below(f"generator/{rank}/"), each[rank])


def _split(state: dict[str, dict[int, dict[str, object]]]) -> tuple[dict[str, torch.Tensor], Json]:
    """Return an optimiser's state as tensors by `number/name`, and what is left as JSON."""
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, dict[str, object]] = {}
    for number, entries in state["state"].items():
        plain[str(number)] = {}
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{number}/{name}"] = value
            else:
                plain[str(number)][name] = value
    return tensors, cast(Json, {"state": plain, "param_groups": state["param_groups"]})


def _joined(tensors: dict[str, torch.Tensor], rest: dict[str, Json]) -> dict[str, object]:
    """Return the state that `_split` took apart."""
    plain = cast("dict[str, dict[str, object]]", rest["state"])
    state: dict[int, dict[str, object]] = {int(number): dict(entries) for number, entries in plain.items()}
    for name, tensor in tensors.items():
        number, _, entry = name.partition("/")
        state[int(number)][entry] = tensor
    return {"state": state, "param_groups": rest["param_groups"]}
