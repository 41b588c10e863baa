"""A small residual net over scikit-learn's digits, trained from a seed: where most methods of the room start."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.bridge import Optimiser, Recipe, Stage, finetune
from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.runtime import run
from tests.engine.bridge.train.digits import INPUT, scans

SIDE = 16
WIDTHS = (16, 32, 64)
# Published fine-tuning is by SGD with momentum; the decay is the usual one for nets of this size.
SGD = Optimiser("sgd", {"momentum": 0.9, "weight_decay": 5e-4})

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def net(seed: int = 0, widths: tuple[int, ...] = WIDTHS) -> Model:
    """Return a stem, one block of two 3x3 convolutions a stage, norms behind all, an average, and ten scores."""
    b = Builder(seed=seed)
    x: gs.Tensor = _unit(b, b.input(["N", 1, SIDE, SIDE], INPUT), 1, widths[0], 3, 1, "stem")
    inside = widths[0]
    for stage, width in enumerate(widths):
        step = 2 if stage else 1
        inner = _unit(b, x, inside, width, 3, step, f"stage{stage}.conv1")
        inner = _norm(b, b.conv(inner, width, width, bias=False, name=f"stage{stage}.conv2"), width)
        if step > 1:
            short = b.conv(x, width, inside, 1, stride=step, bias=False, name=f"stage{stage}.short")
            x = _norm(b, short, width)
        x = b.relu(b.add(inner, x))
        inside = width
    model = b.model(b.linear(b.op("Flatten", b.op("GlobalAveragePool", x)), 10, inside, name="head"))
    model.outputs[0].name = "scores"
    return model


def _unit(
    b: Builder, x: gs.Tensor, inside: int, width: int, kernel: int, step: int, name: str
) -> gs.Variable:
    return b.relu(_norm(b, b.conv(x, width, inside, kernel, stride=step, bias=False, name=name), width))


def _norm(b: Builder, x: gs.Tensor, width: int) -> gs.Variable:
    numbers = (np.ones(width), np.zeros(width), np.zeros(width), np.ones(width))
    return b.op("BatchNormalization", x, *(b.constant(np.array(each, np.float32)) for each in numbers))


def enlarged(chosen: Labels) -> Images:
    """Return the scans of these numbers as [n, 1, 16, 16], each pixel twice along both axes, about 0 on average."""
    pixels = scans()[0][chosen].reshape(-1, 1, 8, 8)
    return np.ascontiguousarray(np.kron(pixels, np.ones((1, 1, SIDE // 8, SIDE // 8), np.float32)) * 2 - 0.6)


def training(samples: int | None = None) -> ArraySource:
    """Return the first of the scans for training, with labels."""
    _, labels, train = scans()
    return ArraySource({INPUT: enlarged(train[:samples])}, labels[train[:samples]])


def held_out() -> ArraySource:
    """Return the scans that are not for training."""
    _, labels, train = scans()
    rest = np.setdiff1d(np.arange(len(labels)), train)
    return ArraySource({INPUT: enlarged(rest)}, labels[rest])


def accuracy(model: Model) -> float:
    """Return the percentage of the held-out scans that onnxruntime gets right."""
    source = held_out()
    assert source.labels is not None
    scores = run(model, dict(source.arrays), ["scores"])["scores"]
    return 100 * float((np.asarray(scores).argmax(1) == source.labels).mean())


def recipe(epochs: int, rate: float, **stage: object) -> Recipe:
    """Return a stage of cross-entropy by SGD along a cosine, in batches of 64."""
    made = Stage(epochs, rate, (CrossEntropy(),), **stage)  # type: ignore[arg-type]
    return Recipe((made,), SGD, batch=64)


@lru_cache
def trained(seed: int = 0, epochs: int = 8) -> Model:
    """Return the net of a seed after its training."""
    from dataclasses import replace

    return finetune(net(seed), replace(recipe(epochs, 0.05), seed=seed), training())
