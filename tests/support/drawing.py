"""Drawing with any operator set: `Drawing` knows where each version keeps its numbers (attribute or input).

Tensors are drawn together with their shapes (`Drawn`), so that a block can decide what fits. The batch axis may be the
text "N". Numbers become initializers or `Constant` nodes, as the drawing's style says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder, Model

Size = int | str
Shape = tuple[Size, ...]

_IR_VERSION = {21: 10, 22: 10, 23: 11, 24: 12}


class Unfit(Exception):
    """A block does not fit a tensor (its channels cannot be split, its operator set is too old)."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A tensor and its shape."""

    tensor: gs.Tensor
    shape: Shape

    def size(self, axis: int) -> int:
        value = self.shape[axis]
        if isinstance(value, str):
            raise Unfit(f"axis {axis} is symbolic")
        return value


@dataclass
class Style:
    """How a model is written: its operator set, and the habits of its exporter."""

    opset: int = 17
    symbolic: bool = True
    constant_nodes: float = 0.2
    computed_shapes: float = 0.3
    seed: int = 0
    dynamic_time: bool = False


@dataclass
class Drawing:
    """A model being drawn."""

    style: Style = field(default_factory=Style)

    def __post_init__(self) -> None:
        self.opset = self.style.opset
        self.rng = np.random.default_rng([self.style.seed, 7])
        self.b = Builder(opset=self.opset, seed=self.style.seed, ir_version=_IR_VERSION.get(self.opset, 8))
        self.tables: list[Drawn] = []  # embeddings that a later layer may use again

    # --- tensors --------------------------------------------------------------------------------------------------

    def input(self, *shape: Size, dtype: npt.DTypeLike = np.float32, name: str | None = None) -> Drawn:
        """Declare an input; a symbolic drawing has "N" for its first size."""
        return self.declared(("N", *shape[1:]) if self.style.symbolic else shape, dtype, name)

    def declared(self, sizes: Shape, dtype: npt.DTypeLike = np.float32, name: str | None = None) -> Drawn:
        """Declare an input of these sizes, symbols among them."""
        return Drawn(self.b.input(list(sizes), name, dtype), sizes)

    def const(self, values: npt.ArrayLike, name: str | None = None) -> Drawn:
        """File numbers, as an initializer or as a `Constant` node."""
        array = np.asarray(values)
        if name is None and self.chance(self.style.constant_nodes):
            tensor: gs.Tensor = self.b.op("Constant", value=gs.Constant("", array))
        else:
            tensor = self.b.constant(array, name)
        return Drawn(tensor, array.shape)

    def ints(self, *values: int) -> Drawn:
        return self.const(np.array(values, dtype=np.int64))

    def floats(
        self, *shape: int, scale: float | None = None, offset: float = 0.0, name: str | None = None
    ) -> Drawn:
        """File random float32 weights; by default scaled so that a layer keeps the size of its input."""
        factor = (
            scale if scale is not None else 1 / np.sqrt(max(prod(shape[1:]), 1)) if len(shape) > 1 else 0.3
        )
        return self.const((offset + factor * self.rng.standard_normal(shape)).astype(np.float32), name)

    def scalar(self, value: float) -> Drawn:
        return self.const(np.float32(value))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, *options: int) -> int:
        return int(self.rng.choice(options))

    # --- operators ------------------------------------------------------------------------------------------------

    def op(
        self,
        kind: str,
        *inputs: Drawn | None,
        shape: Sequence[Size],
        domain: str | None = None,
        **attrs: Any,
    ) -> Drawn:
        return Drawn(self.b.op(kind, *_tensors(inputs), domain=domain, **attrs), tuple(shape))

    def ops(
        self, kind: str, *inputs: Drawn | None, shapes: Sequence[Sequence[Size]], **attrs: Any
    ) -> list[Drawn]:
        made = self.b.op_all(kind, *_tensors(inputs), outputs=len(shapes), **attrs)
        return [Drawn(tensor, tuple(shape)) for tensor, shape in zip(made, shapes, strict=True)]

    def unary(self, kind: str, x: Drawn, **attrs: Any) -> Drawn:
        return self.op(kind, x, shape=x.shape, **attrs)

    def binary(self, kind: str, *operands: Drawn, **attrs: Any) -> Drawn:
        """Add an operator of broadcast operands."""
        return self.op(kind, *operands, shape=broadcast([x.shape for x in operands]), **attrs)

    def add(self, a: Drawn, b: Drawn) -> Drawn:
        return self.binary("Add", a, b)

    def mul(self, a: Drawn, b: Drawn) -> Drawn:
        return self.binary("Mul", a, b)

    def matmul(self, a: Drawn, b: Drawn) -> Drawn:
        batch = broadcast([a.shape[:-2], b.shape[:-2]])
        return self.op("MatMul", a, b, shape=(*batch, a.shape[-2], b.shape[-1]))

    def transpose(self, x: Drawn, *perm: int) -> Drawn:
        return self.op("Transpose", x, shape=[x.shape[p] for p in perm], perm=list(perm))

    def concat(self, *parts: Drawn, axis: int = 1) -> Drawn:
        shape = list(parts[0].shape)
        shape[axis] = sum(part.size(axis) for part in parts)
        return self.op("Concat", *parts, shape=shape, axis=axis)

    def reshape(self, x: Drawn, *target: Size) -> Drawn:
        """Reshape to sizes of which the first may be 0 (as the batch is), -1, or left to a computed shape.

        A symbol among the others is a size of x: read off x, or written 0 where it stays in its place.
        """
        shape: list[Size] = list(target)
        numbers = [size for size in target if isinstance(size, int)]
        if target[0] == 0:
            shape[0] = x.shape[0]
            stays = all(
                isinstance(size, int) or (i < len(x.shape) and x.shape[i] == size)
                for i, size in enumerate(target)
            )
            if not stays or self.chance(self.style.computed_shapes):
                return self.op("Reshape", x, self.shape_with_batch(x, target[1:]), shape=shape)
            if len(numbers) == len(target) and -1 not in numbers and self.chance(0.3):
                numbers[0] = -1
            else:
                numbers = [size if isinstance(size, int) else 0 for size in target]
        return self.op("Reshape", x, self.ints(*numbers), shape=shape)

    def regroup(self, x: Drawn, numbers: Sequence[int], shape: Sequence[Size]) -> Drawn:
        """Reshape to literal numbers; `shape` is what they come to."""
        return self.op("Reshape", x, self.ints(*numbers), shape=shape)

    def shape_with_batch(self, x: Drawn, rest: Sequence[Size]) -> Drawn:
        """Return [batch of x, *rest] computed the way exporters do; a number of `rest` may be read off x as well."""
        whole = self.op("Shape", x, shape=[len(x.shape)])
        parts = [self.unsqueeze(self.op("Gather", whole, self.const(np.int64(0)), shape=[], axis=0), 0)]
        for value in rest:
            same = [i for i, size in enumerate(x.shape) if i and size == value]
            if same and (isinstance(value, str) or self.chance(0.5)):
                parts.append(self.op("Gather", whole, self.ints(same[0]), shape=[1], axis=0))
            elif isinstance(value, str):
                raise Unfit(f"{value} is no size of the tensor")
            else:
                parts.append(self.ints(value))
        return self.op("Concat", *parts, shape=[len(parts)], axis=0)

    def squeeze(self, x: Drawn, *axes: int) -> Drawn:
        shape = [size for i, size in enumerate(x.shape) if i not in axes]
        if self.opset < 13:
            return self.op("Squeeze", x, shape=shape, axes=list(axes))
        return self.op("Squeeze", x, self.ints(*axes), shape=shape)

    def unsqueeze(self, x: Drawn, *axes: int) -> Drawn:
        shape = list(x.shape)
        for axis in sorted(axes):
            shape.insert(axis, 1)
        if self.opset < 13:
            return self.op("Unsqueeze", x, shape=shape, axes=list(axes))
        return self.op("Unsqueeze", x, self.ints(*axes), shape=shape)

    def reduce(self, kind: str, x: Drawn, *axes: int, keep: bool = True) -> Drawn:
        """Add a reduction; its axes became an input at 13 (ReduceSum) or 18."""
        shape = [1 if i in axes else size for i, size in enumerate(x.shape) if keep or i not in axes]
        if self.opset >= (13 if kind == "ReduceSum" else 18):
            return self.op(kind, x, self.ints(*axes), shape=shape, keepdims=int(keep))
        return self.op(kind, x, shape=shape, axes=list(axes), keepdims=int(keep))

    def split(self, x: Drawn, sizes: Sequence[int], axis: int) -> list[Drawn]:
        """Add a Split; equal parts are sometimes left for the operator to work out."""
        shapes = [[size if i == axis else old for i, old in enumerate(x.shape)] for size in sizes]
        if self.opset < 13:
            attrs: dict[str, object] = (
                {} if len(set(sizes)) == 1 and self.chance(0.4) else {"split": list(sizes)}
            )
            return self.ops("Split", x, shapes=shapes, axis=axis, **attrs)
        if len(set(sizes)) == 1 and self.chance(0.4):
            attrs = {"num_outputs": len(sizes)} if self.opset >= 18 else {}
            return self.ops("Split", x, shapes=shapes, axis=axis, **attrs)
        return self.ops("Split", x, self.ints(*sizes), shapes=shapes, axis=axis)

    def slice(self, x: Drawn, axis: int, start: int, end: int, step: int = 1) -> Drawn:
        shape = list(x.shape)
        shape[axis] = len(range(*slice(start, end, step).indices(x.size(axis))))
        if self.opset < 10:
            if step != 1:
                raise Unfit("no steps before operator set 10")
            return self.op("Slice", x, shape=shape, starts=[start], ends=[end], axes=[axis])
        numbers = [self.ints(start), self.ints(end), self.ints(axis)]
        return self.op("Slice", x, *numbers, *([self.ints(step)] if step != 1 else []), shape=shape)

    def pad(self, x: Drawn, pads: Sequence[int], mode: str = "constant") -> Drawn:
        """Add a Pad; `pads` is [low per axis, high per axis]."""
        half = len(pads) // 2
        shape = [
            size if isinstance(size, str) else size + pads[i] + pads[i + half]
            for i, size in enumerate(x.shape)
        ]
        if self.opset < 11:
            return self.op("Pad", x, shape=shape, pads=list(pads), mode=mode)
        value = [self.scalar(0.0)] if mode == "constant" and self.chance(0.5) else []
        return self.op("Pad", x, self.ints(*pads), *value, shape=shape, mode=mode)

    def softmax(self, x: Drawn, axis: int = -1) -> Drawn:
        """Add a softmax over one axis; before 13 the operator flattens, so the axis must be the last."""
        if self.opset < 13 and axis not in (-1, len(x.shape) - 1):
            raise Unfit("a softmax before operator set 13 takes all trailing axes")
        return self.op("Softmax", x, shape=x.shape, axis=axis)

    def softmax_over(self, x: Drawn, axis: int) -> Drawn:
        """Return a softmax over any axis; before 13 that axis has to be carried to the end and back."""
        if self.opset >= 13:
            return self.softmax(x, axis)
        order = [i for i in range(len(x.shape)) if i != axis] + [axis]
        back = [order.index(i) for i in range(len(x.shape))]
        return self.transpose(self.softmax(self.transpose(x, *order)), *back)

    def clip(self, x: Drawn, low: float, high: float) -> Drawn:
        if self.opset < 11:
            return self.unary("Clip", x, min=low, max=high)
        return self.op("Clip", x, self.scalar(low), self.scalar(high), shape=x.shape)

    def expand(self, x: Drawn, like: Drawn, rest: Sequence[Size]) -> Drawn:
        """Expand to [batch of `like`, *rest]."""
        batch = like.shape[0]
        numbers = [size for size in rest if isinstance(size, int)]
        if (
            isinstance(batch, int)
            and len(numbers) == len(rest)
            and not self.chance(self.style.computed_shapes)
        ):
            return self.op("Expand", x, self.ints(batch, *numbers), shape=(batch, *numbers))
        return self.op("Expand", x, self.shape_with_batch(like, rest), shape=(batch, *rest))

    # --- layers ---------------------------------------------------------------------------------------------------

    def conv(
        self,
        x: Drawn,
        out: int,
        kernel: int = 3,
        stride: int = 1,
        group: int = 1,
        bias: bool = True,
        weight: Drawn | None = None,
    ) -> Drawn:
        """Add a convolution with same padding over all trailing axes."""
        into, rank = x.size(1), len(x.shape) - 2
        w = weight or self.floats(out, into // group, *[kernel] * rank)
        space = [(size + stride - 1) // stride if isinstance(size, int) else size for size in x.shape[2:]]
        attrs: dict[str, Any] = {
            "kernel_shape": [kernel] * rank,
            "strides": [stride] * rank,
            "pads": [kernel // 2] * 2 * rank,
        }
        return self.op(
            "Conv",
            x,
            w,
            self.floats(out) if bias else None,
            shape=(x.shape[0], out, *space),
            group=group,
            **attrs,
        )

    def batch_norm(self, x: Drawn) -> Drawn:
        c = x.size(1)
        variance = self.const((0.5 + self.rng.random(c)).astype(np.float32))
        return self.op(
            "BatchNormalization",
            x,
            self.floats(c, offset=1.0),
            self.floats(c),
            self.floats(c),
            variance,
            shape=x.shape,
            epsilon=1e-5,
        )

    def linear(self, x: Drawn, out: int, bias: bool = True) -> Drawn:
        """Add a layer over the last axis, as Gemm where the rank allows and as MatMul + Add."""
        into = x.size(-1)
        if len(x.shape) == 2 and self.chance(0.6):
            flip = self.chance(0.6)
            w = self.floats(*((out, into) if flip else (into, out)), scale=1 / np.sqrt(into))
            return self.op(
                "Gemm", x, w, self.floats(out) if bias else None, shape=(x.shape[0], out), transB=int(flip)
            )
        y = self.op("MatMul", x, self.floats(into, out, scale=1 / np.sqrt(into)), shape=(*x.shape[:-1], out))
        return self.add(y, self.floats(out)) if bias else y

    def activate(self, x: Drawn) -> Drawn:
        """Add some activation."""
        kinds = [
            "Relu",
            "LeakyRelu",
            "Sigmoid",
            "Tanh",
            "Elu",
            "Softplus",
            "clip",
            "silu",
            "gelu",
            "HardSigmoid",
        ]
        kind = str(
            self.rng.choice(
                kinds + (["HardSwish"] if self.opset >= 14 else []) + (["Gelu"] if self.opset >= 20 else [])
            )
        )
        if kind == "clip":
            return self.clip(x, 0.0, 6.0)
        if kind == "silu":
            return self.mul(x, self.unary("Sigmoid", x))
        if kind == "gelu":
            bell = self.unary("Erf", self.binary("Div", x, self.scalar(1.4142135)))
            return self.mul(self.mul(x, self.add(bell, self.scalar(1.0))), self.scalar(0.5))
        return self.unary(kind, x)

    def layer_norm(self, x: Drawn) -> Drawn:
        """Normalise the last axis, as one operator (17) or written out."""
        c = x.size(-1)
        if self.opset >= 17 and self.chance(0.5):
            scale, bias = self.floats(c, offset=1.0), self.floats(c) if self.chance(0.8) else None
            return self.op("LayerNormalization", x, scale, bias, shape=x.shape, axis=-1, epsilon=1e-5)
        y = self.standardise(x, len(x.shape) - 1)
        return self.add(self.mul(y, self.floats(c, offset=1.0)), self.floats(c))

    def standardise(self, x: Drawn, *axes: int) -> Drawn:
        """Subtract the mean and divide by the deviation, written out."""
        centred = self.binary("Sub", x, self.reduce("ReduceMean", x, *axes))
        square = (
            self.mul(centred, centred) if self.chance(0.5) else self.binary("Pow", centred, self.scalar(2.0))
        )
        variance = self.add(self.reduce("ReduceMean", square, *axes), self.scalar(1e-5))
        return self.binary("Div", centred, self.unary("Sqrt", variance))

    def model(self, *outputs: Drawn) -> Model:
        return self.b.model(*(x.tensor for x in outputs))


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """Return the shape that these broadcast to."""
    rank = max(len(shape) for shape in shapes)
    result: list[Size] = []
    for axis in range(-rank, 0):
        sizes = [shape[axis] for shape in shapes if len(shape) >= -axis]
        result.append(next((size for size in sizes if size != 1), 1))
    return tuple(result)


def _tensors(inputs: Sequence[Drawn | None]) -> list[gs.Tensor | None]:
    kept = [None if x is None else x.tensor for x in inputs]
    while kept and kept[-1] is None:
        kept.pop()
    return kept
