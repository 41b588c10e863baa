"""Whole models with weights of few bits beside their float and onnxruntime-int8 selves: wall clock and CPU time.

`python tests/bench/low_bit_models.py` prints a table for custom_ops/MEASURED.md. Transformer blocks of width 1024, an
MLP of 4096 and 128 keys of a past, for one token and for 32; an LSTM and a GRU of 1024 units over 16 steps. Random
weights: this is about speed, not about what rounding does to a trained net.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.factor.gates import WriteOutGates
from graphrewrite.passes.lowbit import LowerLowBit
from graphrewrite.pipeline import Pipeline
from graphrewrite.runtime import Feeds, sample_inputs, session
from tests.bench.common import Spent, middle, timed

WIDTH, MLP, HEADS, PAST, BLOCKS = 1024, 4096, 16, 128, 3
STEPS = 16
FORMS = {"2 bits": (2, 0), "2 bits, 64": (2, 64), "1 bit": (1, 0), "4 bits, 32": (4, 32)}


def transformer(tokens: int) -> Model:
    """Draw blocks that read `tokens` new tokens and the keys and values of a past."""
    b = Builder(seed=0)
    x: gs.Tensor = b.input([1, tokens, WIDTH], "x")
    for number in range(BLOCKS):
        x = b.add(x, _attention(b, _norm(b, x), tokens, number))
        hidden = b.add(
            b.op("MatMul", _norm(b, x), b.weight(WIDTH, MLP)), b.constant(np.zeros(MLP, np.float32))
        )
        hidden = b.op("Mul", hidden, b.op("Sigmoid", hidden))
        x = b.add(x, b.op("MatMul", hidden, b.constant(_square(b, MLP, WIDTH))))
    return b.model(x)


def _attention(b: Builder, x: gs.Tensor, tokens: int, number: int) -> gs.Tensor:
    size = WIDTH // HEADS
    parts = b.op_all("Split", b.op("MatMul", x, b.constant(_square(b, WIDTH, 3 * WIDTH))), outputs=3, axis=2)
    split = b.constant(np.array([1, tokens, HEADS, size]))
    query, *stored = (b.op("Transpose", b.op("Reshape", part, split), perm=[0, 2, 1, 3]) for part in parts)
    pasts = [b.input([1, HEADS, PAST, size], f"{kind}{number}") for kind in ("keys", "values")]
    keys, values = (b.op("Concat", past, new, axis=2) for past, new in zip(pasts, stored, strict=True))
    scores = b.op("MatMul", query, b.op("Transpose", keys, perm=[0, 1, 3, 2]))
    weights = b.op("Softmax", b.op("Mul", scores, b.constant(np.float32(size**-0.5))), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", weights, values), perm=[0, 2, 1, 3])
    flat = b.op("Reshape", mixed, b.constant(np.array([1, tokens, WIDTH])))
    return b.op("MatMul", flat, b.constant(_square(b, WIDTH, WIDTH)))


def _norm(b: Builder, x: gs.Tensor) -> gs.Tensor:
    ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    return b.op("LayerNormalization", x, b.constant(ones), b.constant(zeros))


def _square(b: Builder, inputs: int, outputs: int) -> np.ndarray:
    return b.rng.standard_normal((inputs, outputs), dtype=np.float32) / np.float32(np.sqrt(inputs))


def recurrent(op: str) -> Model:
    """Draw a recurrent layer."""
    b = Builder(seed=0)
    gates = {"LSTM": 4, "GRU": 3}[op] * WIDTH
    x = b.input([STEPS, 1, WIDTH], "x")
    weights = [b.constant(_square(b, WIDTH, gates).T[None].copy()) for _ in range(2)]
    bias = b.constant(np.zeros((1, 2 * gates), np.float32))
    return b.model(b.op(op, x, *weights, bias, hidden_size=WIDTH))


def selves(model: Model, folder: Path) -> Mapping[str, Model]:
    """Return a model, its onnxruntime-int8 and 4-bit selves, and ours."""
    path = folder / "float.onnx"
    model.save(path)
    quantize_dynamic(path, folder / "int8.onnx", weight_type=QuantType.QInt8)
    made = {"fp32": model, "int8": Model.load(folder / "int8.onnx")}
    if not model.nodes("LSTM", "GRU"):
        quantizer = MatMulNBitsQuantizer(
            onnx.load(path), bits=4, block_size=32, is_symmetric=True, accuracy_level=4
        )
        quantizer.process()
        made["4-bit"] = Model.from_proto(quantizer.model.model)
    for name, (bits, group) in FORMS.items():
        steps = (WriteOutGates(), LowerLowBit(bits, group))
        made[name] = Pipeline(steps, verify="structure").run(model).model
    return made


def measure(model: Model, rounds: int) -> dict[str, Spent]:
    """Return the wall and CPU seconds of a run of each self, in turns, on one thread."""
    feeds: Feeds = sample_inputs(model)
    calls: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, each in selves(model, Path(folder)).items():
            started = session(each, threads=1, spinning=False)
            calls[name] = lambda started=started: started.run(None, feeds)  # type: ignore[misc]
    spent: dict[str, list[Spent]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            took = timed(call)[1]
            if number:
                spent[name].append(took)
    return {name: middle(values) for name, values in spent.items()}


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)  # the quantisers say something about every node
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    names = ["fp32", "int8", "4-bit", *FORMS]
    print("| model | " + " | ".join(f"{name}: wall ms (CPU)" for name in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    models = {
        f"{BLOCKS} transformer blocks, 1 token": transformer(1),
        f"{BLOCKS} transformer blocks, 32 tokens": transformer(32),
        f"LSTM, {STEPS} steps": recurrent("LSTM"),
        f"GRU, {STEPS} steps": recurrent("GRU"),
    }
    for title, model in models.items():
        spent = measure(model, rounds)
        cells = []
        for name in names:
            took = spent.get(name)
            if took is None:
                cells.append("-")
                continue
            times = "" if name == "fp32" else f", {spent['fp32'].cpu / took.cpu:.1f}x"
            cells.append(f"{took.wall * 1e3:.2f} ({took.cpu * 1e3:.2f}{times})")
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)
        print(title, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
