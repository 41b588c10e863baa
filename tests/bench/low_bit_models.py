"""Whole models with weights of few bits beside their float and onnxruntime-int8 selves: wall clock and CPU time.

`python -m tests.bench.low_bit_models` prints a table for custom_ops/MEASURED.md. Transformer blocks of width 1024, an
MLP of 4096 and 128 keys of a past, for one token and for 32; an LSTM and a GRU of 1024 units over 16 steps. Random
weights: this is about speed, not about what rounding does to a trained net.
"""

import logging
from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.factor.gates import WriteOutGates
from graphrewrite.passes.lowbit import LowerLowBit
from graphrewrite.pipeline import Pipeline
from tests.bench.common import command, facts, say
from tests.bench.kernels_common import head, options_of, row
from tests.bench.models_common import cell, dynamically_int8, measure, recurrent

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


def selves(model: Model) -> Mapping[str, Model]:
    """Return a model, its onnxruntime-int8 and 4-bit selves, and ours."""
    made = {"fp32": model, "int8": dynamically_int8(model)}
    if not model.nodes("LSTM", "GRU"):
        quantizer = MatMulNBitsQuantizer(
            model.to_proto(), bits=4, block_size=32, is_symmetric=True, accuracy_level=4
        )
        quantizer.process()
        made["4-bit"] = Model.from_proto(quantizer.model.model)
    for name, (bits, group) in FORMS.items():
        steps = (WriteOutGates(), LowerLowBit(bits, group))
        made[name] = Pipeline(steps, verify="structure").run(model).model
    return made


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)  # the quantisers say something about every node
    chosen = options_of(__doc__, rounds=15).parse_args()
    names = ("fp32", "int8", "4-bit", *FORMS)
    say(f"{command()}; {facts()}\n")
    say("\n".join(head(["model", "threads", *(f"{name}: wall ms (CPU)" for name in names)])))
    models = {
        f"{BLOCKS} transformer blocks, 1 token": transformer(1),
        f"{BLOCKS} transformer blocks, 32 tokens": transformer(32),
        f"LSTM, {STEPS} steps": recurrent("LSTM", WIDTH, STEPS),
        f"GRU, {STEPS} steps": recurrent("GRU", WIDTH, STEPS),
    }
    for title, model in models.items():
        spent = measure(selves(model), chosen.rounds, chosen.threads)
        say(row([title, str(chosen.threads), *(cell(spent, name, chosen.threads) for name in names)]))


if __name__ == "__main__":
    main()
