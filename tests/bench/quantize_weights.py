"""Weights rounded by themselves, and activations on every run, beside onnxruntime's own tools.

`python -m tests.bench.quantize_weights [--rounds 30] [--only PATTERN ...] [--write]` prints two tables. The first is
one matrix product in every form there is, for 1, 16 and 64 rows: microseconds of CPU time, in turns, caches warm; the
signal is the product's over its difference from floats, rows drawn at random. "onnxruntime's tool" is its
MatMulNBitsQuantizer. The second table is whole models beside quantize_dynamic, with int8 weights, after the
preprocessing it advises: blocks of a transformer of width 1024 and models of the corpus, whose weights are random.
Milliseconds of CPU time, in turns.
"""

import fnmatch
import logging
from collections.abc import Iterator, Sequence

import numpy as np
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.lowbit import LowerLowBit
from graphrewrite.passes.tidy import Tidy
from graphrewrite.passes.weights import DynamicQuantize, WeightOnly
from graphrewrite.pipeline import Pass, Pipeline
from graphrewrite.runtime import Feeds, sample_inputs
from tests.bench.common import kept, say
from tests.bench.kernels_common import call, head, in_turns, options_of, row, us
from tests.bench.low_bit_models import transformer
from tests.bench.models_common import dynamically_int8, measure, prepared
from tests.bench.quantize import outputs, signal
from tests.corpus.index import entries

SIZES = ((768, 3072), (1024, 1024), (4096, 4096))  # inputs, outputs
ROWS = (1, 16, 64)
FORMS: dict[str, Pass] = {
    "expand, 4 bits": WeightOnly(4, 32),
    "dequantize, 8 bits, per output": WeightOnly(8, 0, "dequantize"),
    "dequantize, 4 bits": WeightOnly(4, 32, "dequantize"),
    "matmul_nbits, 8 bits": WeightOnly(8, 32, "matmul_nbits"),
    "matmul_nbits, 4 bits": WeightOnly(4, 32, "matmul_nbits"),
    "matmul_nbits, 4 bits, zeros": WeightOnly(4, 32, "matmul_nbits", symmetric=False),
    "matmul_nbits, 2 bits": WeightOnly(2, 32, "matmul_nbits"),
    "float8, expand": WeightOnly(8, 0, "expand", "float8_e4m3fn"),
    "float8, dequantize": WeightOnly(8, 0, "dequantize", "float8_e4m3fn"),
    "dynamic, 8 bits": DynamicQuantize(),
    "LowBitMatMul, 4 bits": LowerLowBit(4, 32, when="always"),
    "LowBitMatMul, 2 bits": LowerLowBit(2, 64, when="always"),
}
CORPUS = (
    "hf_bert.ts",
    "hf_gpt2.ts",
    "hf_bart.ts",
    "hf_vit.ts",
    "hf_clip.ts",
    "timm_vit_tiny_patch16_224.ts",
    "timm_swin_tiny_patch4_window7_224.ts",
    "timm_twins_svt_small.ts",
    "timm_mixer.ts",
    "timm_tiny_vit_5m_224.ts",
    "timm_xcit_nano_12_p8_224.ts",
    "vit_tv.ts",
)
BLOCKS = {"3 blocks of width 1024, 1 token": 1, "3 blocks of width 1024, 32 tokens": 32}


def product(inputs: int, outputs: int) -> Model:
    """Return a matrix product with a random weight."""
    b = Builder(opset=21, seed=0, ir_version=10)
    return b.model(b.op("MatMul", b.input(["N", inputs], "x"), b.weight(inputs, outputs), name="product"))


def theirs(model: Model, symmetric: bool = True) -> Model:
    """Return what onnxruntime's tool makes of a model: 4 bits, blocks of 32, rows rounded to int8 too."""
    tool = MatMulNBitsQuantizer(
        model.to_proto(), bits=4, block_size=32, is_symmetric=symmetric, accuracy_level=4
    )
    tool.process()
    return Model.from_proto(tool.model.model)


def size(model: Model) -> float:
    """Return the KiB of a model's file."""
    return len(model.to_proto().SerializeToString()) / 1024


def products(inputs: int, count: int, rounds: int) -> Iterator[str]:
    """Yield a line for each form of one product."""
    model = product(inputs, count)
    made = {"fp32": model}
    for name, step in FORMS.items():
        made[name] = Pipeline((step,), verify="structure").run(model).model
    made["onnxruntime's tool, 4 bits"] = theirs(model)
    made["onnxruntime's tool, 4 bits, zeros"] = theirs(model, symmetric=False)
    rng = np.random.default_rng(1)
    given = {rows: rng.standard_normal((rows, inputs)).astype(np.float32) for rows in ROWS}
    spent = {
        rows: in_turns({name: call(each.to_proto(), x) for name, each in made.items()}, rounds)
        for rows, x in given.items()
    }
    held = [{"x": given[ROWS[-1]]}]
    exact = outputs(model, held)
    for name, each in made.items():
        heard = "" if name == "fp32" else f"{signal(exact, outputs(each, held)):.1f}"
        times = [us(spent[rows][name]) for rows in ROWS]
        yield row([f"{inputs} x {count}", name, f"{size(each):.0f}", heard, *times])


def models(only: Sequence[str]) -> Iterator[tuple[str, Model, list[Feeds]]]:
    """Yield names, models, and samples to listen to."""
    for name, tokens in BLOCKS.items():
        if any(fnmatch.fnmatch(name, pattern) for pattern in only):
            model = transformer(tokens)
            yield name, model, [sample_inputs(model, seed) for seed in range(3)]
    corpus = {entry.name: entry for entry in entries()}
    for name in CORPUS:
        if name in corpus and any(fnmatch.fnmatch(name, pattern) for pattern in only):
            entry = corpus[name]
            yield name, Model.load(entry.path), [entry.sample(4, seed) for seed in range(100, 103)]


def whole(name: str, model: Model, held: Sequence[Feeds], rounds: int, threads: int) -> str:
    """Quantise a model in three ways and return its line."""
    selves = {"fp32": model, "rival": dynamically_int8(prepared(model))}
    steps: dict[str, tuple[Pass, ...]] = {
        "dynamic": (DynamicQuantize(), WeightOnly(8, 0)),
        "nbits": (WeightOnly(8, 32, "matmul_nbits"),),
        "four": (WeightOnly(4, 32, "matmul_nbits"),),
    }
    for key, passes in steps.items():
        selves[key] = Pipeline((Tidy(), *passes)).run(model).model
    exact = outputs(model, held)
    took = measure(selves, rounds, threads)
    heard = [f"{signal(exact, outputs(each, held)):.1f}" for key, each in selves.items() if key != "fp32"]
    return row(
        [
            name,
            *(f"{size(each):.0f}" for each in selves.values()),
            *heard,
            *(f"{took[key].cpu * 1e3:.3f}" for key in selves),
            f"{took['rival'].cpu / took['dynamic'].cpu:.2f}",
        ]
    )


def main() -> None:
    """Print both tables."""
    logging.disable(logging.WARNING)  # the quantisers say something about every node
    parser = options_of(__doc__, rounds=30)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="of the models")
    parser.add_argument("--write", action="store_true", help="put the tables into tests/bench/RESULTS.md")
    chosen = parser.parse_args()
    with kept("Weights alone, and activations on every run", chosen.write):
        columns = ("product", "form", "KiB", "signal to noise, dB", *(f"us, {rows} rows" for rows in ROWS))
        say("\n".join(head(columns)))
        for inputs, count in SIZES:
            for line in products(inputs, count, chosen.rounds):
                say(line)
        say()
        kinds = ("fp32", "quantize_dynamic", "dynamic", "matmul_nbits 8", "matmul_nbits 4")
        say(
            "\n".join(
                head(
                    [
                        "model",
                        *(f"KiB: {kinds[0]}", *kinds[1:]),
                        *(f"dB: {kinds[1]}", *kinds[2:]),
                        *(f"ms: {kinds[0]}", *kinds[1:]),
                        "dynamic, times as fast as quantize_dynamic",
                    ]
                )
            )
        )
        for name, model, held in models(chosen.only):
            say(whole(name, model, held, chosen.rounds, chosen.threads))


if __name__ == "__main__":
    main()
