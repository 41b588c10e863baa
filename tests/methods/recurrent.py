"""A recurrent layer on tasks that ask for memory, dense and in factors, trained alike.

python -m tests.methods.recurrent copying 3        mean and spread over three seeds, one row per net
python -m tests.methods.recurrent adding 3
python -m tests.methods.recurrent adding 3 state full       these nets only
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.bridge import Optimiser, Recipe, Stage, finetune
from graphrewrite.bridge.losses import Loss
from graphrewrite.bridge.schedules import Constant
from graphrewrite.bridge.weights import stored
from graphrewrite.ir import Builder, Model
from graphrewrite.models import sequences
from graphrewrite.passes.factor import FactorCells, WriteOutGates
from graphrewrite.passes.factor.factorizations.svd import Svd
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.passes.losses.wavelet import WaveletFilters
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run

HIDDEN = 64


@dataclass(frozen=True)
class Task:
    """A task, its loss and its floor: what a net without memory reaches."""

    width: int
    classes: int
    loss: Loss
    floor: float
    epochs: int
    length: int

    def samples(self, seed: int, rows: int = 2000) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """Return inputs and labels."""
        make = sequences.copying if self.classes > 1 else sequences.adding
        return make(rows, self.length, seed)

    def judged(self, model: Model) -> float:
        """Return the loss on rows that no run is trained on, as onnxruntime computes the model."""
        feeds, labels = self.samples(10_000, 500)
        out = np.asarray(next(iter(run(model, feeds).values())), np.float64)
        if self.classes == 1:
            return float(((out[:, 0] - labels) ** 2).mean())
        out -= np.log(np.exp(out).sum(axis=1, keepdims=True))
        return float(-np.take_along_axis(out, labels[:, None], axis=1).mean())


TASKS = {
    "copying": Task(
        sequences.ENTRIES, sequences.SYMBOLS + 1, CrossEntropy(), sequences.copying_floor(30), 60, 30
    ),
    "adding": Task(2, 1, Mse(), sequences.ADDING_FLOOR, 20, 30),
}


def gru(task: Task, hidden: int, seed: int) -> Model:
    """Return a GRU with a layer on top, of every step's state or of the last, with the starts torch gives it."""
    b = Builder(opset=17, seed=seed)

    def drawn(*shape: int) -> gs.Constant:
        return b.constant((b.rng.uniform(-1, 1, shape) / math.sqrt(hidden)).astype(np.float32))

    x = b.op("Transpose", b.input(["N", "T", task.width], "x"), perm=[1, 0, 2])
    weights = drawn(1, 3 * hidden, task.width), drawn(1, 3 * hidden, hidden), drawn(1, 6 * hidden)
    every, last = b.op_all("GRU", x, *weights, outputs=2, name="cell", domain=None, hidden_size=hidden)
    state = every if task.classes > 1 else last
    state = b.op("Squeeze", state, b.constant(np.array([1 if task.classes > 1 else 0])))
    y = b.op("MatMul", state, drawn(hidden, task.classes))
    y = b.op("Add", y, b.constant(np.zeros(task.classes, np.float32)))
    return b.model(b.op("Transpose", y, perm=[1, 2, 0]) if task.classes > 1 else y)


def numbers(model: Model) -> int:
    """Return how many floats a model holds, in bodies too."""
    return sum(int(np.prod(entry.shape)) for entry in stored(model).values())


def nets(task: Task, seed: int) -> dict[str, Model]:
    """Return what is compared, before training, all with the gates written out."""

    def dense(hidden: int) -> Model:
        return Pipeline([WriteOutGates()]).run(gru(task, hidden, seed)).model

    def factored(step: FactorCells) -> Model:
        return Pipeline([step]).run(gru(task, HIDDEN, seed), Context(seed=seed)).model

    found = {
        "dense": dense(HIDDEN),
        "state": factored(FactorCells()),
        "full": factored(FactorCells(mode="full")),
    }
    found["full, rank 2"] = factored(FactorCells(Svd(rank=2, params=1.0), "full"))
    for like in ("state", "full"):
        narrow = next(size for size in range(HIDDEN, 0, -1) if numbers(dense(size)) <= numbers(found[like]))
        found[f"narrow as {like}"] = dense(narrow)
    return found


def trained(task: Task, model: Model, seed: int, held: bool = True) -> Model:
    """Train for the task, filters held to a wavelet's where there are any and `held` asks for it."""
    filters = any(name.endswith("analysis") for name in model.weights)
    losses = (task.loss, *([WaveletFilters()] if filters and held else []))
    stage = Stage(epochs=task.epochs, rate=0.003, losses=losses, schedule=Constant())
    recipe = Recipe((stage,), Optimiser("RMSprop"), batch=50, clip=1.0, seed=seed)
    feeds, labels = task.samples(seed)
    return finetune(model, recipe, feeds, labels=labels, progress=lambda *_: None)


def main(name: str, seeds: int, only: Sequence[str]) -> None:
    """Train nets from several seeds and print what they reach."""
    task = TASKS[name]
    print(f"{name}: without memory {task.floor:.4f}")
    for net, model in nets(task, 0).items():
        if only and net not in only:
            continue
        found = [task.judged(trained(task, nets(task, seed)[net], seed)) for seed in range(seeds)]
        print(
            f"{net}: {numbers(model)} numbers, {np.mean(found):.4f} +- {np.std(found):.4f}", found, flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
