"""SmoothQuant before 8 bits: signal to noise of transformers as they are, and with channels made loud on purpose.

`python -m tests.bench.quantize_smooth [--only PATTERN ...] [--write]`. Weights of the corpus are random and no channel
of theirs is louder than others, so each model is there twice: as it is, and with three channels of every tensor that
can be divided 20 times as large and read by weights as small, which changes nothing in floats. Ranges come from 64
samples; signal to noise is that of the outputs on 64 samples nobody saw before, in brackets how many tensors were
divided.
"""

import argparse
import fnmatch
import logging
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

import numpy as np

from graphrewrite.data import ArraySource
from graphrewrite.ir import Model
from graphrewrite.match import Draft
from graphrewrite.passes.quant import InsertQdq, SmoothQuant
from graphrewrite.passes.quant.divided import sites_of
from graphrewrite.passes.quant.factors import takers
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.pipeline.quality import quality
from tests.bench.common import kept, say
from tests.bench.kernels_common import head, row
from tests.corpus.index import entries
from tests.passes.quant.test_smooth import WIDTH, block, samples

MODELS = (
    "hf_bert.ts",
    "hf_distilbert.ts",
    "hf_deit.ts",
    "hf_gpt2.ts",
    "hf_llama.ts",
    "hf_opt.ts",
    "hf_swin.ts",
    "hf_t5_encoder.ts",
    "hf_vit.ts",
    "plain_convnext.ts",
    "timm_vit_tiny_patch16_224.ts",
    "vit_tv.ts",
)
STEPS = {
    "always, alpha 0.5": SmoothQuant(gain=-inf),
    "`--smooth`": SmoothQuant(),
    "`--smooth 0.25 0.5 0.75`": SmoothQuant(alphas=(0.25, 0.5, 0.75)),
}
COLUMNS = ("model", "as it is, dB", *(f"{name}, dB (tensors)" for name in STEPS))
_COUNT, _LOUD = 64, 20.0


class Case(NamedTuple):
    """A model, the samples that ranges are found on, and others."""

    name: str
    model: Model
    seen: ArraySource
    held: ArraySource


def planted(model: Model, size: float) -> Model:
    """Return a model with three channels of each tensor that can be divided made so many times as large."""
    made = model.clone()
    draft, rng = Draft(made), np.random.default_rng(0)
    for site in sites_of(draft)[0]:
        taken = takers(draft, site.tensor, site.axis, site.channels)
        if not isinstance(taken, str):
            factors = np.ones(site.channels)
            factors[rng.choice(site.channels, 3, replace=False)] = 1 / size
            site.divide(draft, taken, factors)
    draft.close()
    return made


def chosen(only: list[str]) -> Iterator[Case]:
    """Yield the block at several sizes, and the models that a pattern names, as they are and with loud channels."""
    for size in (1.0, 3.0, 10.0, 100.0):
        name = f"block, three channels {size:g} times as loud"
        yield Case(name, block(size), samples((_COUNT, 6, WIDTH)), samples((_COUNT, 6, WIDTH), seed=1))
    for entry in entries():
        if entry.name in MODELS and any(fnmatch.fnmatch(entry.name, pattern) for pattern in only):
            model = (
                Pipeline((Tidy(),)).run(Model.load(entry.path)).model
            )  # it would undo some of what is planted
            seen, held = (ArraySource(entry.sample(_COUNT, seed)) for seed in (0, 100))
            yield Case(entry.name, model, seen, held)
            yield Case(f"{entry.name}, loud channels", planted(model, _LOUD), seen, held)


def line(case: Case) -> str:
    """Return the signal of a model with and without."""
    context = Context(data=case.seen, threads=1)
    cells: list[str] = []
    for step in (None, *STEPS.values()):
        between = () if step is None else (step,)
        result = Pipeline((*between, InsertQdq())).run(case.model, context)
        signal = quality(case.model, result.model, case.held.batches(16), threads=1).agreement[0].snr
        moved = sum(note.kind == "done" and note.text.startswith("divided by") for note in result.notes)
        cells.append(f"{signal:.1f}" if step is None else f"{signal:.1f} ({moved})")
    return row([case.name, *cells])


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--write", action="store_true", help="put the table into tests/bench/RESULTS.md")
    options = parser.parse_args()
    with kept("8 bits after SmoothQuant", options.write):
        say("\n".join(head(COLUMNS)))
        for case in chosen(options.only):
            say(line(case))


if __name__ == "__main__":
    main()
