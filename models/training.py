"""What the training scripts share: augmentation, the learning-rate course, the measurement and the card.

Everything here is numpy and onnxruntime, so that models from two frameworks are fed the same images and
judged by the same ruler.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import json
import math
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx

from graphrewrite.models import registry
from graphrewrite.models.digits import Images, Inputs, Labels

SHIFT = 4
"""Largest augmentation shift in enlarged pixels, which is one pixel of the original scan."""
NOISE = 0.1
"""Standard deviation of the augmentation noise, in normalised units."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Command-line choices of a training script; the defaults made the shipped file."""

    epochs: int
    seed: int
    batch: int
    folder: Path


def options(description: str, epochs: int) -> Options:
    """Parse `--epochs --seed --batch --out`; `--out` is the folder for the model and its card."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--out", type=Path, default=registry.FOLDER, help="folder for the model and cards.json"
    )
    chosen = parser.parse_args()
    return Options(chosen.epochs, chosen.seed, chosen.batch, chosen.out)


def batches(
    images: Images, labels: Labels, size: int, random: np.random.Generator
) -> Iterator[tuple[Images, Labels]]:
    """One epoch of shuffled, augmented batches [size, 1, 32, 32]; the ragged last batch is left out.

    A few images would give batch norm poor statistics, and the next shuffle brings them back.
    """
    order = random.permutation(len(images))
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        yield augmented(images[chosen], random), labels[chosen]


def augmented(images: Images, random: np.random.Generator) -> Images:
    """Each image shifted by up to `SHIFT` pixels along both axes, border repeated, with Gaussian noise."""
    side = images.shape[-1]
    padded = np.pad(images, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    corner = random.integers(0, 2 * SHIFT + 1, size=(len(images), 2))
    moved = np.stack([p[:, r : r + side, c : c + side] for p, (r, c) in zip(padded, corner, strict=True)])
    noise = random.normal(0.0, NOISE, size=moved.shape)
    return (moved + noise).astype(np.float32)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first tenth of `steps`, then half a cosine down to zero."""
    warm = max(1, steps // 10)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def correct_in_onnxruntime(path: Path, inputs: Inputs, labels: Labels) -> int:
    """How many held-out images onnxruntime's CPU provider classifies correctly with the file at `path`."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, dict(inputs))
    return int((np.asarray(scores).argmax(axis=1) == labels).sum())


def count_params(model: onnx.ModelProto) -> int:
    """Elements of all floating-point initializers of the main graph."""
    floating = (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.BFLOAT16,
    )
    return sum(math.prod(w.dims) for w in model.graph.initializer if w.data_type in floating)


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without doc strings and metadata, where exporters write paths of the exporting machine."""
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    del clean.metadata_props[:]
    clean.doc_string = ""
    clean.graph.doc_string = ""
    for part in (clean.graph, *clean.graph.node, *clean.graph.value_info, *clean.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    return clean


def publish(
    model: onnx.ModelProto,
    name: str,
    chosen: Options,
    *,
    producer: str,
    script: str,
    layout: str,
    packages: tuple[str, ...],
    seconds: float,
) -> registry.Card:
    """Check and write the model, measure it on the held-out images and put its card into `cards.json`."""
    onnx.checker.check_model(model, full_check=True)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    path = chosen.folder / f"{name}.onnx"
    content = model.SerializeToString(deterministic=True)
    path.write_bytes(content)

    suffix = "" if layout == "NCHW" else "_channels_last"
    inputs, labels = getattr(importlib.import_module("graphrewrite.models.digits"), f"test{suffix}")()
    correct = correct_in_onnxruntime(path, inputs, labels)
    versions = {package: metadata.version(package) for package in (*packages, "onnx", "onnxruntime", "numpy")}
    card = registry.Card(
        name=name,
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        task="handwritten digits, 10 classes, 32x32 grey images",
        producer=producer,
        script=script,
        accuracy=correct / len(labels),
        correct=correct,
        held_out=len(labels),
        params=count_params(model),
        opset=next(entry.version for entry in model.opset_import if entry.domain == ""),
        input=model.graph.input[0].name,
        layout=layout,
        calibration=f"graphrewrite.models.digits:calibration{suffix}",
        test=f"graphrewrite.models.digits:test{suffix}",
        seed=chosen.seed,
        epochs=chosen.epochs,
        seconds=round(seconds, 1),
        versions=dict(sorted({**versions, "python": platform.python_version()}.items())),
    )
    _write_card(card, chosen.folder / "cards.json")
    return card


def _write_card(card: registry.Card, path: Path) -> None:
    """Replace this model's entry and keep the others; written aside and moved, so never half a file."""
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [entry for entry in entries if entry["name"] != card.name]
    merged = sorted([*kept, dataclasses.asdict(card)], key=lambda entry: str(entry["name"]))
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")
    os.replace(aside, path)
