"""Quantising a small net with norms after one image of each class.

python -m tests.methods.few_images 5        one row per seed: a net, ten images, what is made after them
"""

import sys
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import onnx_graphsurgeon as gs
import torch

from graphrewrite.bridge import GraphModule, Optimiser, Recipe, Stage, finetune
from graphrewrite.bridge.transforms import attach, fold
from graphrewrite.data import ArraySource, DataSource
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.recipes.fdda import QuantizeFdda
from graphrewrite.passes.synth.synthesisers import Progress
from graphrewrite.passes.synth.synthesisers.fdda import Fdda
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context
from graphrewrite.runtime import run
from tests.engine.bridge.train.digits import scans

IMAGE = "image"
# An eightieth of the published steps, and a thirtieth, in a generator of a quarter of the width: images are 8x8.
SHORT = Fdda(epochs=20, steps=50, width=32)
LONG = replace(SHORT, epochs=50)


def net(seed: int) -> Model:
    """Return five convolutions with norms over 8x8 scans."""
    b = Builder(opset=17, seed=seed)
    x: gs.Tensor = b.input(["N", 1, 8, 8], IMAGE)
    inside = 1
    for number, (width, stride) in enumerate(((16, 1), (32, 2), (32, 1), (64, 2), (64, 1))):
        x = b.conv(x, width, inside, 3, stride=stride, bias=False, name=f"conv{number}")
        numbers = (np.full(width, value, np.float32) for value in (1, 0, 0, 1))
        x = b.relu(b.op("BatchNormalization", x, *(b.constant(each) for each in numbers)))
        inside = width
    model = b.model(b.linear(b.op("Flatten", b.op("GlobalAveragePool", x)), 10, inside, name="head"))
    model.outputs[0].name = "scores"
    return model


def samples(chosen: np.ndarray) -> ArraySource:
    """Return scans by number, with labels."""
    pixels, labels, _ = scans()
    return ArraySource(
        {IMAGE: (pixels[chosen] * 2 - 0.6).reshape(-1, 1, 8, 8).astype(np.float32)}, labels[chosen]
    )


def one_each(seed: int) -> ArraySource:
    """Return one training scan of each class."""
    _, labels, train = scans()
    rng = np.random.default_rng(seed)
    return samples(np.array([rng.choice(train[labels[train] == each]) for each in range(10)]))


@lru_cache
def trained(seed: int) -> Model:
    """Return the net of a seed after ten epochs on all training scans."""
    sgd = Optimiser("sgd", {"momentum": 0.9, "weight_decay": 5e-4})
    recipe = Recipe((Stage(10, 0.05, (CrossEntropy(),)),), sgd, batch=64, seed=seed)
    return finetune(net(seed), recipe, samples(scans()[2]), progress=lambda *_: None)


def said(model: Model, source: ArraySource) -> np.ndarray:
    """Return the classes a model says."""
    return np.asarray(run(model, dict(source.arrays), ["scores"])["scores"]).argmax(axis=1)


def accuracy(model: Model) -> float:
    """Return the percentage of the held-out scans that onnxruntime gets right."""
    pixels, _, train = scans()
    source = samples(np.setdiff1d(np.arange(len(pixels)), train))
    return 100 * float((said(model, source) == source.labels).mean())


def rounded(model: Model, step: QuantizeFdda, source: ArraySource) -> Model:
    """Return the model rounded in the same places after the same images, spans by their extremes, not trained."""
    student = Tidy().run(model.clone(), Context()).model
    module = GraphModule(student)
    attach(module, step.places(student))
    with torch.no_grad():
        module(torch.tensor(np.asarray(source.arrays[IMAGE])))
    return fold(module)


@dataclass(frozen=True)
class Made:
    """Samples that were made before."""

    source: ArraySource

    def synthesise(
        self, model: Model, source: DataSource, samples: int, seed: int = 0, progress: Progress | None = None
    ) -> ArraySource:
        """Return them."""
        return self.source


def learned(model: Model, weight_bits: int, activation_bits: int, seed: int, made: ArraySource) -> Model:
    """Return the model after FDDA with samples that were made for it."""
    step = QuantizeFdda(weight_bits, activation_bits, synthesiser=Made(made), samples=len(made))
    return step.run(model.clone(), Context(data=one_each(seed), seed=seed)).model


def main(seeds: int) -> None:
    """Print accuracies of float, spans alone, FDDA, and FDDA without statistics of classes."""
    for seed in range(seeds):
        model, few = trained(seed), one_each(seed)
        both = [
            method.synthesise(model, few, 256, seed)
            for method in (SHORT, replace(SHORT, centred=0.0, distorted=0.0))
        ]
        sure = [100 * float((said(model, made) == made.labels).mean()) for made in both]
        print(f"seed {seed}: float {accuracy(model):.2f}, taken for their class {sure[0]:.1f} {sure[1]:.1f}")
        for bits in ((3, 3), (2, 4)):
            plain = accuracy(rounded(model, QuantizeFdda(*bits), few))
            found = [accuracy(learned(model, *bits, seed, made)) for made in both]
            print(
                f"  W{bits[0]}A{bits[1]}: spans {plain:.2f}, fdda {found[0]:.2f}, w/o classes {found[1]:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]))
