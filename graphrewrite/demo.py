"""The main job from end to end, on the shipped models: `python -m graphrewrite.demo`, or `make demo`.

Each trained model is tidied, pruned to half its multiply-accumulates with calibration data, verified, measured on
held-out images, written, and served from the written file. Every figure is measured in this run.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from graphrewrite import cli, models
from graphrewrite.cli.screen import Screen
from graphrewrite.data import DataSource, load
from graphrewrite.ir import Model
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.passes.channels.reconstruct import reconstructions
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context, Facts, Pipeline
from graphrewrite.report import text
from graphrewrite.report.measure import batches, quality, single, timed

_KEPT = 0.5
_REPAIR = "least_squares"
# onnxruntime computes convolutions in blocks of 8 or 16 channels; other counts take a slower way through it.
_MULTIPLE = 16
_SECONDS = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; models and report pages go to --out. Returns the exit code of the first command that failed."""
    parser = argparse.ArgumentParser(
        prog="python -m graphrewrite.demo", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", default="build/demo", metavar="FOLDER", help="default: build/demo")
    parser.add_argument("--model", choices=models.names(), help="this one only")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for timing the models (default 2)")
    options = parser.parse_args(argv)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    screen = Screen(sys.stdout, sys.stderr)
    begun = time.perf_counter()
    for name in [options.model] if options.model else sorted(models.names(), reverse=True):
        code = _demonstrate(name, out, options.seconds, screen)
        if code:
            return code
    screen.line(f"everything above was measured in these {time.perf_counter() - begun:.0f} seconds")
    return 0


def _demonstrate(name: str, out: Path, seconds: float, screen: Screen) -> int:
    card, source = models.card(name), models.shipped(name)
    target, page = out / f"{name}.pruned.onnx", out / f"{name}.html"
    choice = f"--tidy --macs {_KEPT} --multiple {_MULTIPLE} --data {card.calibration} --reconstruct {_REPAIR}"
    words = [
        "prune",
        str(source),
        "-o",
        str(target),
        *choice.split(),
        "--test",
        card.test,
        "--report",
        str(page),
    ]
    screen.heading(f"{name}: {card.task}; {card.producer}")
    screen.line(f"$ {shlex.join(['graphrewrite', *words])}")
    sys.stdout.flush()
    code = cli.main(words)
    if code:
        return code
    original = Model.load(source)
    screen.line()
    _what_each_part_buys(
        original, target, load(card.calibration, original), load(card.test, original), seconds, screen
    )
    screen.line()
    return 0


def _what_each_part_buys(
    original: Model, written: Path, calibration: DataSource, test: DataSource, seconds: float, screen: Screen
) -> None:
    """Make the stages on the way to the written model, and measure all of them on the same samples, in turns."""
    cut = RemoveChannels(budget=MacsBelow(_KEPT), multiple=_MULTIPLE, absorb=False)
    full = replace(cut, reconstruct=reconstructions.make(_REPAIR))
    context = Context(data=calibration)
    tidied = Pipeline((Tidy(),)).run(original, context).model
    stages = {
        "original": original,
        "tidied": tidied,
        "pruned, nothing made up for": Pipeline((cut,)).run(tidied, context).model,
        "pruned, means absorbed": Pipeline((replace(cut, absorb=True),)).run(tidied, context).model,
        "pruned, least squares: as written": Model.load(written),
        "the same in any channel counts": Pipeline((replace(full, multiple=1),)).run(tidied, context).model,
    }
    feeds = single(original, next(iter(batches(original, test))))
    latencies, how = timed(list(stages.items()), feeds, threads=1, budget=seconds)
    rows = []
    for (stage, model), latency in zip(stages.items(), latencies, strict=True):
        sizes = Facts.of(model)
        found = quality(original, model, batches(original, test), test.labels)
        assert found.after is not None  # the shipped test data has labels
        rows.append(
            (
                stage,
                text.count(sizes.macs),
                text.count(sizes.params),
                text.size(len(model.to_proto().SerializeToString())),
                text.seconds(latency.median),
                f"{latency.ratio:.2f}",
                f"{100 * found.after.share:.2f} %",
                f"{found.after.correct}/{found.after.total}",
            )
        )
    titles = ("what each part buys", "MACs", "parameters", "file", "latency", "ratio", "accuracy", "right")
    screen.table(titles, rows, right=titles[1:])
    screen.line(f"latency and ratio: medians in turns, {how}")


if __name__ == "__main__":
    sys.exit(main())
