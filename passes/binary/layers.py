"""Layers that multiply signs by signs: convolutions and matrix products as binary nets write them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.match import Draft, Refusal
from graphrewrite.match.view import is_default_domain
from graphrewrite.passes.binary.signs import Floats, Signs, signs_of
from graphrewrite.passes.tidy.reading import integer, real, source, text

# What the kernels take: custom_ops/binary/conv.cc.
_MOST_TAPS = 63
_MOST_STEP = 32767
# By how much, relatively, the sizes of one output's weights may differ: training writes sign * size as
# (sign * size - v) + v, and what is left of it after folding is rounded.
_SPREAD = 1e-5
# A sum of so many signs is a whole number in float32.
_MOST_SIGNS = 1 << 24


@dataclass(frozen=True)
class Window:
    """How the window of a convolution moves; `pads` are top, left, bottom, right."""

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1


@dataclass(frozen=True)
class Layer:
    """One layer of signs.

    Attributes:
        node: the Conv, MatMul or Gemm.
        kind: "conv" or "matmul".
        channels: of its input.
        signs: where its input comes from.
        plus: where its weights are positive: [outputs, channels / group, height, width] or [outputs, channels].
        scale: [outputs] what +1 times +1 is worth, the sizes of weights and activations multiplied.
        bias: [outputs], None for none.
        is_rounded: whether sizes of weights differ a little within an output; `scale` is from their mean.
        window: of a convolution.
    """

    node: gs.Node
    kind: Literal["conv", "matmul"]
    channels: int
    signs: Signs
    plus: npt.NDArray[np.bool_]
    scale: Floats
    bias: Floats | None
    is_rounded: bool = False
    window: Window | None = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return str(self.node.name or self.node.outputs[0].name)

    @property
    def axis(self) -> int:
        """The axis of channels of what it reads and gives, from the end."""
        return axis_of(self.kind)

    @property
    def most(self) -> int:
        """How many signs one of its sums has."""
        return int(np.prod(self.plus.shape[1:]))

    @property
    def is_plain(self) -> bool:
        """Tell whether its outputs are the sums themselves, to the bit."""
        whole = self.bias is None and bool((self.scale == 1).all())
        return whole and not self.is_rounded and self.signs.tensor is self.node.inputs[0]


def axis_of(kind: str) -> int:
    """Return the axis of channels, from the end."""
    return -3 if kind == "conv" else -1


def layers_of(draft: Draft) -> Iterator[Layer | Refusal]:
    """Yield the layers of signs in the order of the nodes; for one whose weights alone are signs, why it is none."""
    for node in draft.nodes():
        if is_default_domain(node) and node.op in ("Conv", "MatMul", "Gemm"):
            found = layer_at(draft, node)
            if found is not None:
                yield found


def layer_at(draft: Draft, node: gs.Node) -> Layer | Refusal | None:
    """Read a Conv, MatMul or Gemm as a layer of signs; None where its weights are not one size per output."""
    stored = draft.constant(node.inputs[1])
    if stored is None or stored.dtype != np.float32 or stored.size == 0 or not _may_be_signs(stored):
        return None
    turned = node.op == "MatMul" or (node.op == "Gemm" and not integer(node, "transB", 0))
    weight = stored.T if turned else stored
    split = _sizes(weight)
    if split is None:
        return None
    size, plus = split
    bias = _bias(draft, node, len(size))
    if isinstance(bias, Refusal):
        return bias
    kind: Literal["conv", "matmul"] = "conv" if node.op == "Conv" else "matmul"
    window: Window | None = None
    if kind == "conv":
        read = _window(node, weight)
        if isinstance(read, Refusal):
            return read
        window, channels = read, weight.shape[1] * read.group
    else:
        refusal = _matrix_refusal(draft, node, weight)
        if refusal is not None:
            return refusal
        channels = weight.shape[1]
    if np.prod(weight.shape[1:]) >= _MOST_SIGNS:
        return Refusal("a sum has 2^24 signs or more", node, near=True)
    signs = signs_of(draft, node.inputs[0], axis_of(kind), channels)
    if isinstance(signs, Refusal):
        if plus.all() or not plus.any():
            return None  # a mean, a sum or a copy of something else
        return Refusal(signs.reason, node, near=True)
    if draft.dtype(signs.x) != np.float32:
        return Refusal("its input is not known to be float32", node, near=True)
    scale = np.asarray(size * np.float32(signs.size), np.float32)
    if not np.isfinite(scale).all():
        return Refusal("its weights or activations are not finite", node, near=True)
    flipped = scale < 0
    plus = plus ^ flipped.reshape(-1, *[1] * (plus.ndim - 1))
    exact = bool((np.abs(weight) == size.reshape(-1, *[1] * (weight.ndim - 1))).all())
    return Layer(node, kind, channels, signs, plus, np.abs(scale), bias, not exact, window)


def _may_be_signs(stored: npt.NDArray[np.generic]) -> bool:
    """Tell at a glance that a weight is dense: most are."""
    few = np.abs(stored.reshape(stored.shape[0], -1)[0, :64])
    return stored.ndim == 2 or bool((np.abs(few - few[0]) <= 2 * _SPREAD * few[0]).all())


def _sizes(weight: npt.NDArray[np.generic]) -> tuple[Floats, npt.NDArray[np.bool_]] | None:
    """Return the one size of each output's weights, and which are positive."""
    rows = np.abs(weight.reshape(weight.shape[0], -1)).astype(np.float64)
    size = rows.mean(axis=1)
    if not (np.abs(rows - size[:, None]) <= _SPREAD * size[:, None]).all():
        return None
    return np.asarray(size, np.float32), np.asarray(weight.astype(np.float32) > 0)


def _bias(draft: Draft, node: gs.Node, outputs: int) -> Floats | Refusal | None:
    tensor = source(node, 2)
    if tensor is None:
        return None
    values = draft.constant(tensor)
    if values is None or values.size not in (1, outputs) or values.shape[-1:] not in ((), (1,), (outputs,)):
        return Refusal("what it adds is not one constant per output", node, near=True)
    if node.op == "Gemm":
        values = values.astype(np.float32) * np.float32(real(node, "beta", 1.0))
    return np.asarray(np.broadcast_to(values.reshape(-1), (outputs,)), np.float32)


def _window(node: gs.Node, weight: npt.NDArray[np.generic]) -> Window | Refusal:
    if weight.ndim != 4:
        return Refusal("it is no convolution of pictures", node, near=True)
    taps = weight.shape[2:]
    strides, dilations = node.attrs.get("strides") or [1, 1], node.attrs.get("dilations") or [1, 1]
    mode = text(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = node.attrs.get("pads") or [0, 0, 0, 0]
    elif mode == "VALID":
        pads = [0, 0, 0, 0]
    elif list(strides) == [1, 1]:  # with larger strides what is padded depends on the size of the picture
        extra = [(k - 1) * d for k, d in zip(taps, dilations, strict=True)]
        less, more = [e // 2 for e in extra], [e - e // 2 for e in extra]
        pads = less + more if mode == "SAME_UPPER" else more + less
    else:
        return Refusal("its pads depend on the size of the picture", node, near=True)
    if min(pads) < 0 or max(*pads, *strides, *dilations) > _MOST_STEP or max(taps) > _MOST_TAPS:
        return Refusal(
            "its window, pads, strides or dilations are beyond what the kernels take", node, near=True
        )
    return Window(
        (int(strides[0]), int(strides[1])),
        (int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3])),
        (int(dilations[0]), int(dilations[1])),
        integer(node, "group", 1),
    )


def _matrix_refusal(draft: Draft, node: gs.Node, weight: npt.NDArray[np.generic]) -> Refusal | None:
    if weight.ndim != 2:
        return Refusal("it is no product with one matrix", node, near=True)
    if node.op == "Gemm" and (integer(node, "transA", 0) or real(node, "alpha", 1.0) != 1.0):
        return Refusal("it turns or scales its input", node, near=True)
    if not draft.rank(node.inputs[0]):
        return Refusal("the rank of its input is not known", node, near=True)
    return None
