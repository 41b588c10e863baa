"""Models that another tool has already rewritten: quantised in three ways, or fused by onnxruntime.

A rewriter meets such files as inputs: scales and zero points per channel, integer operators, operators of onnxruntime's
own domain. Each starts from a model of another source, built here again.
"""

import importlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from tests.corpus.foreign_keras import specs_of_source as keras
from tests.corpus.index import Array, Feed
from tests.corpus.plain_attention import specs_of_source as attention
from tests.corpus.plain_convs import specs_of_source as convolutions
from tests.corpus.plain_images import specs_of_source as images
from tests.corpus.plain_recurrent import specs_of_source as recurrent
from tests.corpus.plain_tables import specs_of_source as tables
from tests.corpus.spec import Built, Spec

Change = Callable[[Path, Path, tuple[Feed, ...]], None]


class Samples:
    """Eight random batches, in the form the calibrator reads."""

    def __init__(self, feeds: tuple[Feed, ...]) -> None:
        rng = np.random.default_rng(0)
        self.batches: Iterator[dict[str, Array]] = iter(
            [{feed.name: feed.sample(2, rng) for feed in feeds} for _ in range(8)]
        )

    def get_next(self) -> dict[str, Array] | None:
        """The next batch, or None at the end."""
        return next(self.batches, None)


def quantize_static(
    form: str, per_channel: bool, source: Path, target: Path, feeds: tuple[Feed, ...]
) -> None:
    """Weights and activations to 8 bits; `form` is "QDQ" or "QOperator"."""
    library = importlib.import_module("onnxruntime.quantization")
    library.quantize_static(
        source, target, Samples(feeds), quant_format=library.QuantFormat[form], per_channel=per_channel,
        weight_type=library.QuantType.QInt8,
    )  # fmt: skip


def quantize_dynamic(source: Path, target: Path, feeds: tuple[Feed, ...]) -> None:
    """Weights to 8 bits, activations quantised at run time."""
    importlib.import_module("onnxruntime.quantization").quantize_dynamic(source, target)


def fuse(source: Path, target: Path, feeds: tuple[Feed, ...]) -> None:
    """Save what onnxruntime makes of the graph with its extended fusions."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def derive(origin: Spec, change: Change) -> Built:
    """Build the original, let the other tool rewrite it, and take the result."""
    built = origin.build()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(built.proto, source)
        change(source, target, built.feeds)
        return Built(onnx.load(target), built.feeds)


def specs_of_source() -> list[Spec]:
    """Pairs of an original and a change."""
    origins = {
        spec.name: spec
        for source in (convolutions, images, recurrent, attention, tables, keras)
        for spec in source()
    }
    qdq, operators = partial(quantize_static, "QDQ", True), partial(quantize_static, "QOperator", False)
    wanted: tuple[tuple[str, str, Change], ...] = (
        ("plain_resnet.ts", "qdq", qdq),
        ("plain_resnet.ts", "qoperator", operators),
        ("plain_mobilenet.dyn", "qdq", qdq),
        ("unet_transposed.ts", "qdq", partial(quantize_static, "QDQ", False)),
        ("plain_vit.ts", "qdq", qdq),
        ("packed_attention.ts", "dynamic", quantize_dynamic),
        ("perceptron.ts", "dynamic", quantize_dynamic),
        ("lstm_tagger.dyn", "dynamic", quantize_dynamic),
        ("keras_mobile.hand", "qdq", qdq),
        ("plain_resnet.dyn", "ort", fuse),
        ("plain_vit.dyn", "ort", fuse),
        ("plain_convnext.ts", "ort", fuse),
        ("keras_attention.hand", "ort", fuse),
    )
    return [
        Spec(
            f"{name.split('.')[0]}_{tag}.ort", origins[name].family, "onnxruntime", "ort",
            partial(derive, origins[name], change), name == "plain_resnet.ts",
        )
        for name, tag, change in wanted
    ]  # fmt: skip
