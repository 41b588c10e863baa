"""SmoothQuant before 8 bits: signal to noise of corpus models and of a block with channels made loud on purpose.

`python -m tests.bench.quantize_smooth [--only PATTERN ...] [--write]`. Most weights of the corpus are random, and no
channel of theirs is louder than others, so there is little to gain; the block's three loud channels are so many times
as large and read by weights as small. Signal to noise is that of outputs on samples nobody saw before.
"""

import argparse
import logging
from collections.abc import Iterator

from graphrewrite.passes.quant import InsertQdq, SmoothQuant
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.pipeline.quality import quality
from tests.bench.common import kept, say
from tests.bench.kernels_common import head, row
from tests.bench.quantize import Batches, Case, cases
from tests.passes.quant.test_smooth import WIDTH, block, samples

MODELS = (
    "hf_vit.ts",
    "hf_bert.ts",
    "timm_vit_tiny_patch16_224.ts",
    "timm_swin_tiny_patch4_window7_224.ts",
    "plain_convnext.ts",
    "digits_*",
)
STEPS = {
    "alpha 0.5": SmoothQuant(),
    "best of 0.25, 0.5, 0.75": SmoothQuant(alphas=(0.25, 0.5, 0.75)),
    "best, products put in": SmoothQuant(alphas=(0.25, 0.5, 0.75), inserts=True),
}
COLUMNS = ("model", "as it is, dB", *(f"{name}, dB (tensors)" for name in STEPS))


def loud(size: float) -> Case:
    """Return the block with three channels so many times as loud."""
    seen, held = (list(samples((64, 6, WIDTH), seed).batches(8)) for seed in (0, 1))
    return Case(f"block, three channels {size:g} times as loud", block(size), seen, held)


def line(case: Case) -> str:
    """Return the signal of a model with and without."""
    context = Context(data=Batches(case.seen), threads=1)
    cells: list[str] = []
    for step in (None, *STEPS.values()):
        between = () if step is None else (step,)
        result = Pipeline((Tidy(), *between, InsertQdq(batch=8))).run(case.model, context)
        signal = quality(case.model, result.model, case.held, threads=1).agreement[0].snr
        moved = len(
            [note for note in result.notes if note.kind == "done" and note.text.startswith("divided by")]
        )
        cells.append(f"{signal:.1f}" if step is None else f"{signal:.1f} ({moved})")
    return row([case.name, *cells])


def chosen(only: list[str]) -> Iterator[Case]:
    """Yield the models of the table."""
    yield from (loud(size) for size in (1.0, 10.0, 100.0))
    yield from cases(only)


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(MODELS), metavar="PATTERN")
    parser.add_argument("--write", action="store_true", help="put the table into tests/bench/RESULTS.md")
    options = parser.parse_args()
    with kept("8 bits after SmoothQuant", options.write):
        say("\n".join(head(COLUMNS)))
        for case in chosen(options.only):
            say(line(case))


if __name__ == "__main__":
    main()
