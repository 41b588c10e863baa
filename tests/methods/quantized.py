"""The small residual net with few bits in it, for the quantizers' tests, and the table of the guide.

python -m tests.methods.quantized 2 3 4      quantizers at so many bits over five seeds, some minutes each
"""

import sys
from collections.abc import Hashable, Iterable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from graphrewrite.bridge import Optimiser, finetune
from graphrewrite.data import ArraySource
from graphrewrite.ir import Model
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.passes.quant.quantizers import Quantizer
from graphrewrite.passes.quant.quantizers.lsq import Lsq
from graphrewrite.passes.quant.quantizers.n2uq import N2uq
from graphrewrite.passes.quant.quantizers.pams import Pams
from graphrewrite.passes.recipes.qat import QuantizeAware
from graphrewrite.passes.tidy import Tidy
from graphrewrite.passes.train import Distill
from graphrewrite.pipeline import Context, Pass, Pipeline
from tests.methods.residual import accuracy, net, recipe, training

SEEDS = range(5)
WIDTHS = (8, 16)
EPOCHS, RATE = 10, 0.003


@lru_cache
def taught(seed: int) -> Model:
    """Return a net that has learned the digits from labels."""
    return finetune(net(seed, WIDTHS), replace(recipe(10, 0.05), seed=seed), training())


def changed(step: Pass, seed: int, folded: bool = True) -> float:
    """Return the accuracy in percent of what a step makes of a taught net and scans without labels."""
    context = Context(data=ArraySource(training().arrays), seed=seed)
    steps = [Tidy(keep_batchnorm=not folded), step]
    return accuracy(Pipeline(steps, verify="structure").run(taught(seed), context).model)


def after(quantizer: Quantizer, seed: int, folded: bool = False) -> float:
    """Return the accuracy after a training in which the net learns from itself as it was."""
    assert isinstance(quantizer, Hashable)
    return _after(quantizer, seed, folded)


@lru_cache
def _after(quantizer: Quantizer, seed: int, folded: bool) -> float:
    step = QuantizeAware(quantizer, Distill(EPOCHS, RATE, optimiser=Optimiser("adam")))
    return changed(step, seed, folded)


def mean(quantizer: Quantizer, folded: bool = False) -> float:
    """Return the mean over seeds."""
    return float(np.mean([after(quantizer, seed, folded) for seed in SEEDS]))


def frozen(quantizer: Quantizer) -> Quantizer:
    """Return the same with all that it would learn as it is at the start."""
    return replace(quantizer, transform_rate=0.0)  # type: ignore[type-var]


def show(name: str, scores: Iterable[float]) -> None:
    """Print a row: what each seed gave, and the mean."""
    found = list(scores)
    print(f"| {name} | {', '.join(f'{each:.1f}' for each in found)} | {np.mean(found):.1f} |", flush=True)


def main(asked: list[int]) -> None:
    """Print the table for numbers of bits."""
    show("float", (accuracy(taught(seed)) for seed in SEEDS))
    for bits in asked:
        show(f"{bits}, weights rounded only", (changed(InsertQdq(weight_bits=bits), seed) for seed in SEEDS))
        for quantizer in (Lsq(bits), Pams(bits, warmup=1 / EPOCHS), N2uq(bits)):
            name = f"{bits}, {type(quantizer).__name__.lower()}"
            show(name, (after(quantizer, seed) for seed in SEEDS))
            show(f"{name}, norms folded before", (after(quantizer, seed, True) for seed in SEEDS))
            if bits == 2:
                show(f"{name}, frozen", (after(frozen(quantizer), seed) for seed in SEEDS))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
