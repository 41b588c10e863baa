"""The main job from end to end, on the shipped models: `python -m graphrewrite.demo`, or `make demo`.

Each trained model is tidied, pruned to half its multiply-accumulates with calibration data, verified, measured on
held-out images, written, and served from the written file. Then it is pruned to less than a third and learns from the
original for a few epochs, beside a net of the same shape that starts from random weights. At last it is rounded to 8
bits. Every figure is measured in this run.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite import cli, models
from graphrewrite.cli.screen import Screen
from graphrewrite.data import DataSource, load
from graphrewrite.ir import Array, Model
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.passes.channels.reconstruct import reconstructions
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context, Facts, Pipeline
from graphrewrite.pipeline.quality import batches, quality
from graphrewrite.report import text
from graphrewrite.report.measure import single, timed

_KEPT = 0.5
_REPAIR = "least_squares"
# onnxruntime computes convolutions in blocks of 8 or 16 channels; other counts take a slower way through it.
_MULTIPLE = 16
_SECONDS = 2.0
_SMALL = 0.3
_RECIPE = {"stages": [{"epochs": 5, "rate": 0.002, "warmup": 1, "losses": ["soft_labels"]}]}
_TRAIN = {"NCHW": "train", "NHWC": "train_channels_last"}


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
    code = _run(words, screen)
    if code:
        return code
    original = Model.load(source)
    screen.line()
    _what_each_part_buys(
        original, target, load(card.calibration, original), load(card.test, original), seconds, screen
    )
    screen.line()
    code = _recover(name, out, screen)
    if code:
        return code
    screen.line()
    code = _round(name, out, seconds, screen)
    screen.line()
    return code


def _run(words: Sequence[str], screen: Screen) -> int:
    screen.line(f"$ {shlex.join(['graphrewrite', *words])}")
    sys.stdout.flush()
    return cli.main(words)


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
    _compared("what each part buys", stages, test, seconds, screen)


def _compared(
    title: str, stages: Mapping[str, Model], test: DataSource, seconds: float, screen: Screen
) -> None:
    """Measure models on the same samples, the latency in turns, beside the first of them."""
    original = next(iter(stages.values()))
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
    titles = (title, "MACs", "parameters", "file", "latency", "ratio", "accuracy", "right")
    screen.table(titles, rows, right=titles[1:])
    screen.line(f"latency and ratio: medians in turns, {how}")


def _recover(name: str, out: Path, screen: Screen) -> int:
    """Prune far, let the original teach what is left, and train the same shape from random weights to compare."""
    card, source = models.card(name), str(models.shipped(name))
    small, recovered, recipe = (
        out / f"{name}.{end}" for end in ("small.onnx", "recovered.onnx", "recipe.json")
    )
    recipe.write_text(json.dumps(_RECIPE), encoding="utf-8")
    train = f"graphrewrite.models.digits:{_TRAIN[card.layout]}"
    choice = f"--macs {_SMALL} --multiple {_MULTIPLE} --criterion taylor --data {train}"
    code = _run(["prune", source, "-o", str(small), *choice.split()], screen)
    if code:
        return code
    screen.line()
    taught = f"--data {train} --recipe {recipe} --teacher {source} --test {card.test}"
    begun = time.perf_counter()
    code = _run(["finetune", str(small), "-o", str(recovered), *taught.split()], screen)
    if code:
        return code
    first = time.perf_counter() - begun
    from graphrewrite.bridge import Recipe, finetune
    from graphrewrite.passes.losses.cross_entropy import CrossEntropy

    taught_by = Recipe.load(recipe)
    (stage,) = taught_by.stages
    labelled = replace(taught_by, stages=(replace(stage, losses=(CrossEntropy(),)),))
    original, pruned = Model.load(source), Model.load(small)
    begun = time.perf_counter()
    scratch = finetune(from_scratch(pruned), labelled, load(train, original))
    second = time.perf_counter() - begun
    rows = []
    for what, model, spent in (
        ("original", original, ""),
        (f"pruned to {_SMALL:.0%} of the MACs", pruned, ""),
        (
            f"... after {stage.epochs} epochs of the original's answers",
            Model.load(recovered),
            text.seconds(first),
        ),
        (f"same shape, random weights, {stage.epochs} epochs of labels", scratch, text.seconds(second)),
    ):
        test = load(card.test, original)
        found = quality(original, model, batches(original, test), test.labels).after
        assert found is not None  # the shipped test data has labels
        share, right = f"{100 * found.share:.2f} %", f"{found.correct}/{found.total}"
        rows.append((what, text.count(Facts.of(model).macs), spent, share, right))
    titles = ("what training brings", "MACs", "trained for", "accuracy", "right")
    screen.line()
    screen.table(titles, rows, right=titles[1:])
    return 0


def _round(name: str, out: Path, seconds: float, screen: Screen) -> int:
    """Round the original and what has learned from it to 8 bits."""
    card, source = models.card(name), models.shipped(name)
    original, recovered = Model.load(source), out / f"{name}.recovered.onnx"
    stages = {"original": original, "pruned, taught by the original": Model.load(recovered)}
    for what, path, target in (
        ("original in 8 bits", source, out / f"{name}.int8.onnx"),
        ("pruned, taught, in 8 bits", recovered, out / f"{name}.small_int8.onnx"),
    ):
        choice = f"--data {card.calibration} --test {card.test}"
        code = _run(["quantize", str(path), "-o", str(target), *choice.split()], screen)
        if code:
            return code
        screen.line()
        stages[what] = Model.load(target)
    _compared("what rounding buys", stages, load(card.test, original), seconds, screen)
    return 0


def from_scratch(model: Model, seed: int = 0) -> Model:
    """Return the graph with weights as before any training (He et al., 2015): norms pass through, biases are zero."""
    fresh, rng = model.clone(), np.random.default_rng(seed)
    for node in fresh.graph.nodes:
        names = [_stored(tensor) for tensor in node.inputs]
        known = {slot: fresh.weights[name] for slot, name in enumerate(names) if name in fresh.weights}
        if node.op == "BatchNormalization":
            start: dict[int, Array] = {slot: np.full_like(known[slot], slot in (1, 4)) for slot in known}
        elif node.op in ("Conv", "Gemm", "MatMul") and 1 in known:
            shape = known[1].shape
            rows_first = node.op == "MatMul" or (node.op == "Gemm" and not node.attrs.get("transB"))
            inputs = shape[0] if rows_first else np.prod(shape[1:])
            start = {slot: np.zeros_like(known[slot]) for slot in known}
            start[1] = (rng.standard_normal(shape) * np.sqrt(2 / inputs)).astype(known[1].dtype)
        else:
            start = {}
        for slot, values in start.items():
            fresh.weights[names[slot]] = values
    return fresh


def _stored(tensor: gs.Tensor) -> str:
    """Return the name of the weight behind a tensor: exporters hand on equal ones through Identity."""
    maker = next(iter(tensor.inputs), None)
    return _stored(maker.inputs[0]) if maker is not None and maker.op == "Identity" else str(tensor.name)


if __name__ == "__main__":
    sys.exit(main())
