"""Sums and transpositions around a MatMul become a Gemm; padding moves into the convolution or pooling behind it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.match import Draft, RuleSet, rule
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.merge_views import maker_of
from graphrewrite.passes.tidy.reading import integer, pad_value, pads, permutation, same_sizes, source, text
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

_GEMM_TYPES = (np.float32, np.float64)


def _is_matrix_product(draft: Draft, node: gs.Node) -> bool:
    return (
        all(draft.rank(tensor) == 2 for tensor in node.inputs) and draft.dtype(node.inputs[0]) in _GEMM_TYPES
    )


@rule("Add", name="MatMul and Add merged into Gemm", reach=2)
def matmul_add(draft: Draft, node: gs.Node) -> Result:
    """Turn a matrix product plus something that broadcasts into it into one Gemm."""
    for side in (0, 1):
        product, added = maker_of(draft, node.inputs[side], "MatMul"), node.inputs[1 - side]
        if product is None or not _is_matrix_product(draft, product) or draft.opset < 7:
            continue
        if not draft.feeds_only(product.outputs[0], node) or not same_sizes(
            draft.shape(product.outputs[0]), draft.shape(node.outputs[0])
        ):
            continue
        return draft.replace(node.outputs[0], draft.op("Gemm", *product.inputs, added, like=node.outputs[0]))
    return False


@rule("Gemm", "MatMul", name="transposition merged into Gemm", reach=2)
def gemm_transpose(draft: Draft, node: gs.Node) -> Result:
    """Let a Gemm read a matrix the other way round instead of transposing it first."""
    if node.op == "MatMul" and not (_is_matrix_product(draft, node) and draft.opset >= 11):
        return False
    for index, flag in ((0, "transA"), (1, "transB")):
        turned = maker_of(draft, node.inputs[index], "Transpose")
        if (
            turned is None
            or permutation(draft, turned) != [1, 0]
            or not draft.feeds_only(turned.outputs[0], node)
        ):
            continue
        inputs = list(node.inputs)
        inputs[index] = turned.inputs[0]
        attrs = {**node.attrs, flag: 1 - integer(node, flag, 0)}
        return draft.replace(node.outputs[0], draft.op("Gemm", *inputs, like=node.outputs[0], attrs=attrs))
    return False


@rule("Add", name="Gemm and Add merged", reach=2)
def gemm_add(draft: Draft, node: gs.Node) -> Result:
    """Give a Gemm without an added matrix the one that is added behind it."""
    for side in (0, 1):
        product, added = maker_of(draft, node.inputs[side], "Gemm"), node.inputs[1 - side]
        if (
            product is None
            or source(product, 2) is not None
            or not draft.feeds_only(product.outputs[0], node)
        ):
            continue
        shape = draft.shape(added)
        if shape is None or not same_sizes(draft.shape(product.outputs[0]), draft.shape(node.outputs[0])):
            continue
        attrs = {name: value for name, value in product.attrs.items() if name != "beta"}
        made = draft.op("Gemm", *list(product.inputs)[:2], added, like=node.outputs[0], attrs=attrs)
        return draft.replace(node.outputs[0], made)
    return False


@rule("Conv", "AveragePool", "MaxPool", name="padding merged", reach=2)
def pad_into(draft: Draft, node: gs.Node) -> Result:
    """Let a convolution or pooling pad by itself."""
    maker = maker_of(draft, node.inputs[0], "Pad")
    rank = draft.rank(node.inputs[0])
    if maker is None or rank is None or rank < 3 or not draft.feeds_only(maker.outputs[0], node):
        return False
    if len(node.outputs) > 1:
        return False  # positions of a MaxPool count in its padded input
    if text(maker, "mode", "constant") != "constant" or not _pads_explicitly(node):
        return False
    outer, value = pads(draft, maker, rank), pad_value(draft, maker)
    if (
        outer is None
        or value is None
        or min(outer) < 0
        or any(outer[axis] for axis in (0, 1, rank, rank + 1))
    ):
        return False
    if not _pads_with(draft, node, value):
        return False
    spatial = outer[2:rank] + outer[rank + 2 :]
    own = node.attrs.get("pads") or [0] * len(spatial)
    if node.op == "AveragePool":
        if any(own) and not integer(node, "count_include_pad", 0):
            return False
        if integer(node, "ceil_mode", 0):
            return False  # how a window that hangs over the edge counts depends on who padded
    if node.op != "Conv":
        kernel = node.attrs.get("kernel_shape", [])
        limits = [*kernel, *kernel]  # runtimes refuse pooling pads as large as the window
        if any(a + b >= k for a, b, k in zip(own, spatial, limits, strict=True)):
            return False
    attrs = {**node.attrs, "pads": [a + b for a, b in zip(own, spatial, strict=True)]}
    attrs.pop("auto_pad", None)
    if node.op == "AveragePool":
        attrs["count_include_pad"] = 1
    inputs = [maker.inputs[0], *list(node.inputs)[1:]]
    return draft.replace(node.outputs[0], draft.op(node.op, *inputs, like=node.outputs[0], attrs=attrs))


def _pads_explicitly(node: gs.Node) -> bool:
    mode = text(node, "auto_pad", "NOTSET")
    return mode == "NOTSET" or mode == "VALID"


def _pads_with(draft: Draft, node: gs.Node, value: float) -> bool:
    """Tell whether a padding with this number is what the node's own padding means."""
    if node.op == "MaxPool":
        dtype = draft.dtype(node.inputs[0])
        return dtype is not None and dtype.kind == "f" and value <= float(np.finfo(dtype.name).min)
    return value == 0.0 and (node.op == "Conv" or draft.opset >= 7)


RULES = RuleSet.of(matmul_add, gemm_transpose, gemm_add, pad_into)


@passes.register("fuse_linear")
@dataclass(frozen=True)
class FuseLinear:
    """Write MatMul and Add as Gemm, and let Gemm, convolutions and poolings transpose and pad by themselves."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Fuse them."""
        return tidy(model, lambda: RULES)
