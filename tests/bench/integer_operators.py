"""Which operators onnxruntime computes faster on bytes than on floats: the choice of `InsertQdq` hangs on this.

`python -m tests.bench.integer_operators [--rounds 40] [--only PATTERN ...] [--write]`. One operator a model: floats in
and out, or bytes in and out with the quantisers around it that a net has, which onnxruntime fuses where it has a
kernel; what it then runs is in the table. CPU time of one thread, in turns, medians. Only what is as fast on bytes is
worth its roundings between two layers that compute in integers; a layer by itself is rounded first ("floats in").
"""

import fnmatch
import tempfile
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort

from graphrewrite.ir import Builder, Model
from tests.bench.common import kept, say
from tests.bench.kernels_common import call, head, in_turns, options_of, row, us

MAP, SMALL, TOKENS, SCORES = (1, 64, 56, 56), (1, 256, 14, 14), (1, 197, 384), (1, 6, 197, 197)
COLUMNS = (
    "operator",
    "input",
    "us: floats",
    "bytes",
    "times as fast",
    "floats in",
    "times as fast",
    "runs as",
)
_STEP = 0.02
Rounded = Callable[[gs.Tensor], gs.Variable]
Body = Callable[[Builder, gs.Tensor, Rounded], gs.Variable]


class Case(NamedTuple):
    """An operator on an input of a shape; `body` calls `rounded` on whatever else it reads."""

    name: str
    shape: tuple[int, ...]
    body: Body


class Form(Enum):
    """How a case is written: in floats, from bytes to bytes, or from floats to floats with roundings inside."""

    FLOATS = "floats"
    BYTES = "bytes"
    ALONE = "alone"


def of(op: str, **attrs: int | float | list[int]) -> Body:
    """Return an operator of one input."""
    return lambda b, x, rounded: b.op(op, x, **dict[str, Any](attrs))


def pair(op: str, *, constant: bool = False) -> Body:
    """Return an operator of two inputs: twice the same, or a constant vector of channels beside it."""

    def body(b: Builder, x: gs.Tensor, rounded: Rounded) -> gs.Variable:
        beside = rounded(b.constant(np.ones(64, np.float32).reshape(-1, 1, 1))) if constant else x
        return b.op(op, x, beside)

    return body


def concat(b: Builder, x: gs.Tensor, rounded: Rounded) -> gs.Variable:
    """Join an input with itself."""
    return b.op("Concat", x, x, axis=1)


def conv(outputs: int, kernel: int, group: int = 1, stride: int = 1) -> Body:
    """Return a convolution with a constant weight."""

    def body(b: Builder, x: gs.Tensor, rounded: Rounded) -> gs.Variable:
        inputs, axes = x.shape[1] // group, len(x.shape) - 2
        weight = rounded(b.weight(outputs, inputs, *[kernel] * axes))
        return b.op("Conv", x, weight, group=group, pads=[kernel // 2] * 2 * axes, strides=[stride] * axes)

    return body


def upward(b: Builder, x: gs.Tensor, rounded: Rounded) -> gs.Variable:
    """Twice the picture by a transposed convolution."""
    return b.op("ConvTranspose", x, rounded(b.weight(x.shape[1], x.shape[1] // 2, 2, 2)), strides=[2, 2])


def product(outputs: int) -> Body:
    """Return a product with a constant weight."""
    return lambda b, x, rounded: b.op("MatMul", x, rounded(b.weight(x.shape[-1], outputs)))


def gemm(outputs: int) -> Body:
    """Return a Gemm with a constant weight."""
    return lambda b, x, rounded: b.op("Gemm", x, rounded(b.weight(outputs, x.shape[-1])), transB=1)


def attention_scores(b: Builder, x: gs.Tensor, rounded: Rounded) -> gs.Variable:
    """Queries times keys, which are turned first."""
    return b.op("MatMul", x, rounded(b.op("Transpose", x, perm=[0, 1, 3, 2])))


def resize(mode: str) -> Body:
    """Return a doubling of height and width."""
    return lambda b, x, rounded: b.op(
        "Resize", x, None, b.constant(np.array([1, 1, 2, 2], np.float32)), mode=mode
    )


def ends(op: str, *more: npt.ArrayLike, **attrs: int) -> Body:
    """Return an operator with further constants."""
    return lambda b, x, rounded: b.op(op, x, *map(b.constant, more), **dict[str, Any](attrs))


def norm(b: Builder, x: gs.Tensor, rounded: Rounded) -> gs.Variable:
    """Normalise the last axis."""
    return b.op("LayerNormalization", x, b.constant(np.ones(x.shape[-1], np.float32)))


def where(b: Builder, x: gs.Tensor, rounded: Rounded) -> gs.Variable:
    """Choose between an input and a constant."""
    mask = b.constant(np.random.default_rng(0).random(x.shape) > 0.5)
    return b.op("Where", mask, x, rounded(b.constant(np.float32(-1.0))))


PICTURE = ends("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(0))
CASES = (
    Case("Conv 3x3", MAP, conv(64, 3)),
    Case("Conv 3x3", SMALL, conv(256, 3)),
    Case("Conv 1x1", MAP, conv(64, 1)),
    Case("Conv 1x1", SMALL, conv(256, 1)),
    Case("Conv 3x3 of each channel", MAP, conv(64, 3, 64)),
    Case("Conv 3x3 of each channel", SMALL, conv(256, 3, 256)),
    Case("Conv 7x7 of each channel", MAP, conv(64, 7, 64)),
    Case("Conv 3x3 in 8 groups", SMALL, conv(256, 3, 8)),
    Case("Conv 7x7, stride 2, 3 channels", (1, 3, 224, 224), conv(64, 7, 1, 2)),
    Case("Conv 3", (1, 64, 1024), conv(64, 3)),
    Case("Conv 3x3x3", (1, 32, 8, 28, 28), conv(32, 3)),
    Case("ConvTranspose 2x2", SMALL, upward),
    Case("Gemm", (1, 512), gemm(1000)),
    Case("Gemm", (64, 512), gemm(512)),
    Case("MatMul", TOKENS, product(384)),
    Case("MatMul", (1, 1, 384), product(384)),
    Case("MatMul of two activations", (1, 6, 197, 64), attention_scores),
    Case("MatMul of two activations", SCORES, pair("MatMul")),
    Case("Add", MAP, pair("Add")),
    Case("Add", TOKENS, pair("Add")),
    Case("Add of a constant", MAP, pair("Add", constant=True)),
    Case("Mul", MAP, pair("Mul")),
    Case("Mul of a constant", MAP, pair("Mul", constant=True)),
    Case("Sub", MAP, pair("Sub")),
    Case("Div", MAP, pair("Div", constant=True)),
    Case("Concat", MAP, concat),
    Case("MaxPool", MAP, of("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)),
    Case("AveragePool", MAP, of("AveragePool", kernel_shape=[2, 2], strides=[2, 2])),
    Case("GlobalAveragePool", MAP, of("GlobalAveragePool")),
    Case("ReduceMean", MAP, of("ReduceMean", axes=[2, 3])),
    Case("ReduceMax", MAP, of("ReduceMax", axes=[2, 3])),
    Case("Resize nearest", MAP, resize("nearest")),
    Case("Resize linear", MAP, resize("linear")),
    Case("Sigmoid", MAP, of("Sigmoid")),
    Case("LeakyRelu", MAP, of("LeakyRelu", alpha=0.1)),
    Case("HardSigmoid", MAP, of("HardSigmoid")),
    Case("HardSwish", MAP, of("HardSwish")),
    Case("Tanh", MAP, of("Tanh")),
    Case("Erf", TOKENS, of("Erf")),
    Case("Softmax", SCORES, of("Softmax", axis=-1)),
    Case("LayerNormalization", TOKENS, norm),
    Case("Clip", MAP, ends("Clip", np.float32(-0.5), np.float32(0.5))),
    Case("Pad", MAP, PICTURE),
    Case("Where", MAP, where),
    Case("Transpose", MAP, of("Transpose", perm=[0, 2, 3, 1])),
    Case("Reshape", MAP, ends("Reshape", np.array([1, 64, -1]))),
    Case("Slice", MAP, ends("Slice", np.array([0]), np.array([32]), np.array([1]))),
    Case("Gather", TOKENS, ends("Gather", np.arange(0, 197, 2), axis=1)),
    Case("Tile", SMALL, ends("Tile", np.array([1, 2, 1, 1]))),
    Case("Expand", (1, 64, 1, 1), ends("Expand", np.array([1, 64, 56, 56]))),
    Case("DepthToSpace", MAP, of("DepthToSpace", blocksize=2)),
)


def written(case: Case, form: Form) -> Model:
    """Return the model of a case in a form, of an input x. Scales are all alike: moving numbers must not change one."""
    b = Builder(opset=17)
    step, zero = b.constant(np.float32(_STEP)), b.constant(np.uint8(128))

    def rounded(tensor: gs.Tensor) -> gs.Variable:
        if isinstance(tensor, gs.Constant):
            is_weight = tensor.values.ndim > 1 and tensor.values.shape[1] > 1
            kind = np.int8 if is_weight else np.uint8
            codes = np.rint(tensor.values / _STEP).clip(0, 127).astype(kind)
            return b.op("DequantizeLinear", b.constant(codes), step, b.constant(kind(0)))
        return b.op("DequantizeLinear", b.op("QuantizeLinear", tensor, step, zero), step, zero)

    x: gs.Tensor = b.input(list(case.shape), "x", np.uint8 if form is Form.BYTES else np.float32)
    if form is Form.FLOATS:
        return b.model(case.body(b, x, lambda tensor: tensor))
    x = b.op("DequantizeLinear", x, step, zero) if form is Form.BYTES else rounded(x)
    x.shape = list(case.shape)
    y = case.body(b, x, rounded)
    if form is Form.BYTES:
        return b.model(b.op("QuantizeLinear", y, step, zero), dtypes=[np.uint8])
    return b.model(y if case.name.startswith(("MatMul", "Gemm")) else rounded(y))


def line(case: Case, rounds: int) -> str:
    """Time a case in all its forms and return its line of the table."""
    rng = np.random.default_rng(0)
    floats = rng.standard_normal(case.shape).astype(np.float32)
    fed = {Form.BYTES: np.rint(floats / _STEP + 128).clip(0, 255).astype(np.uint8)}
    models = {form: written(case, form).to_proto() for form in Form}
    calls = {form.value: call(model, fed.get(form, floats)) for form, model in models.items()}
    took = in_turns(calls, rounds)
    exact, inside, alone = (took[form.value] for form in Form)
    ran = ", ".join(dict.fromkeys(kernels(models[Form.BYTES])))
    shape = " x ".join(map(str, case.shape))
    return row(
        [
            case.name,
            shape,
            us(exact),
            us(inside),
            f"{exact / inside:.2f}",
            us(alone),
            f"{exact / alone:.2f}",
            ran,
        ]
    )


def kernels(model: onnx.ModelProto) -> list[str]:
    """Return the operators that onnxruntime runs a model with."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "served.onnx")
        options.log_severity_level = 4
        ort.InferenceSession(model.SerializeToString(), options)
        return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


def main() -> None:
    """Print the table."""
    parser = options_of(__doc__, rounds=40)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--write", action="store_true", help="put the table into tests/bench/RESULTS.md")
    chosen = parser.parse_args()
    with kept("Operators on bytes and on floats", chosen.write):
        say("\n".join(head(COLUMNS)))
        for case in CASES:
            if any(fnmatch.fnmatch(case.name, pattern) for pattern in chosen.only):
                say(line(case, chosen.rounds))


if __name__ == "__main__":
    main()
