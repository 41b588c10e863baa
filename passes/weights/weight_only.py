"""The pass that files weights in few bits and leaves activations alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Model, constant_value
from graphrewrite.ir.edit import all_graphs, all_nodes, drop_unused
from graphrewrite.ir.garbage import paused
from graphrewrite.ir.values import numpy_dtype_to_onnx
from graphrewrite.match.view import View
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.patterns import as_tuples, check_weights_named
from graphrewrite.passes.tidy.reading import integer, real, source
from graphrewrite.passes.weights.blocks import FLOAT8, Blocks, Singles, rounded, rounded_to_float8
from graphrewrite.passes.weights.forms import (
    MICROSOFT,
    dequantised,
    expanded,
    packed_product,
)
from graphrewrite.passes.weights.outcomes import outcome, row, too_old
from graphrewrite.passes.weights.sites import Left, Picked, Site, weights
from graphrewrite.pipeline import Claim, Context, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json

_FORMS = ("expand", "dequantize", "matmul_nbits")
_OLDEST_OPSET = 11  # operators that shift bits
_BLOCKS = (16, 32, 64, 128, 256)  # of MatMulNBits
_WIDTHS = (2, 4, 8)  # bits that have an element type of their own
_IR_VERSIONS = {"int4": 10, "uint4": 10, "int2": 13, "uint2": 13, "float8_e4m3fn": 9, "float8_e5m2": 9}


@passes.register("weight_only")
@dataclass(frozen=True)
class WeightOnly:
    """File weights in 2 to 8 bits, or in float8, with a step for every few numbers that add up to an output.

    Args:
        bits: of a code, 2 to 8; float8 codes have 8.
        block: numbers of a row that share a step; 0 for one step for each row (an output, an entry of a table).
        form: "expand" files operators that make floats of the codes when the model is loaded: a small file, and a
            session that computes what and as fast as it did. "dequantize" puts DequantizeLinear in front of matrix
            products, which needs operator set 21 but for 8 bits without blocks. "matmul_nbits" lets onnxruntime's own
            operator multiply with the codes. Under both all other weights are expanded, and those in half precision.
        codes: "integer", "float8_e4m3fn" or "float8_e5m2" (not with "matmul_nbits").
        symmetric: zero is code 0; otherwise each block has a zero of its own among its codes.
        smallest: weights with fewer numbers stay as they are.
        only: patterns (`*` is any text) of the layers to round; empty for all.
        skip: patterns of layers to leave alone.

    Weights are those of matrix products, convolutions, recurrent cells and tables (Gather), in bodies too. Steps are
    those of least squared error. The claim is equality with the model whose weights are what the codes stand for, each
    graph run as it stands. Once onnxruntime optimises the products of "dequantize" and "matmul_nbits", its kernels
    round the rows that they multiply to int8, a block at a time.
    """

    bits: int = 4
    block: int = 32
    form: str = "expand"
    codes: str = "integer"
    symmetric: bool = True
    smallest: int = 1024
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    claim: ClassVar[Claim] = SameAs(1e-5, "the input model with rounded weights")

    def __post_init__(self) -> None:
        for name, given, expected in (
            ("bits", self.bits, range(2, 9)),
            ("form", self.form, _FORMS),
            ("codes", self.codes, ("integer", *FLOAT8)),
        ):
            if isinstance(given, bool) or given not in expected:
                told = ", ".join(map(str, expected))
                raise InvalidConfig(f"WeightOnly.{name} is {given!r}; expected one of {told}; choose one")
        if isinstance(self.block, bool) or self.block < 0:
            raise InvalidConfig(
                f"WeightOnly.block is {self.block!r}; expected how many numbers share a step, or 0 for a whole row"
            )
        if self.form != "expand" and self.bits not in _WIDTHS:
            raise InvalidConfig(
                f"WeightOnly.bits is {self.bits} with the form {self.form!r}; it has 2, 4 and 8; take one of them, or "
                "the form 'expand'"
            )
        if self.form == "matmul_nbits" and (self.block not in _BLOCKS or self.codes != "integer"):
            raise InvalidConfig(
                f"WeightOnly has blocks of {self.block} and {self.codes} codes with the form 'matmul_nbits'; it takes "
                f"blocks of {', '.join(map(str, _BLOCKS))} and integers; take these, or another form"
            )
        if self.codes in FLOAT8 and (self.bits != 8 or not self.symmetric):
            raise InvalidConfig(
                f"WeightOnly.codes is {self.codes!r} with {self.bits} bits, symmetric={self.symmetric}; float8 has 8 "
                "bits and its zero at 0; give bits=8"
            )
        as_tuples(self, "only", "skip")

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Round every weight and say what it takes now and how far it moved."""
        if model.opset < self.oldest_opset:
            return too_old(model, self._too_old(model.opset))
        before, view = model.clone(), View(model)
        picked = Picked(self.only, self.skip, self.smallest, ("float32", "float16", "bfloat16"))
        made: list[_Filed] = []
        left: list[Left] = []
        for found in weights(model, picked):
            if isinstance(found, Left):
                left.append(found)
            else:
                made.append(self._filed(found, view))
        check_weights_named((*self.only, *self.skip), _names(made, left))
        told = _told(made, left)
        if made:
            _write(model, made)
        rows = [each.row for each in made]
        reference = partial(_slow, before, made)
        return outcome(model, rows, left, told, "it has no constant weights", reference)

    @property
    def oldest_opset(self) -> int:
        """The first operator set that has what is written."""
        if self.codes in FLOAT8:
            return 21 if self.block and self.form == "dequantize" else 19
        if self.form == "dequantize":
            return {2: 25, 4: 21, 8: 21 if self.block else 13}[self.bits]
        return _OLDEST_OPSET

    def _too_old(self, opset: int) -> str:
        """Return why no weight of a model of this operator set can be filed."""
        other = "export it again"
        if self.codes in FLOAT8:
            other = "take integer codes"
        elif self.form == "dequantize":
            other = "take 8 bits and one step for a row (block 0), or another form"
        asked = f"{self.codes} codes of {self.bits} bits in the form {self.form!r} need {self.oldest_opset}"
        return f"its operator set is {opset}; {asked}: convert it (RaiseOpset), or {other}"

    def _filed(self, sites: Sequence[Site], view: View) -> "_Filed":
        values = constant_value(sites[0].weight)
        assert values is not None
        rows = sites[0].rows.of(values)
        owned = values.dtype == np.float32 and all(_is_product(site, view, self.form) for site in sites)
        form = self.form if owned else "expand"
        block = self.block if form == "matmul_nbits" or self.block < rows.shape[1] else 0
        if self.codes in FLOAT8:
            blocks = rounded_to_float8(rows, self.codes, block)
        else:
            # Other runtimes want the steps of a quantiser to be positive.
            blocks = rounded(rows, self.bits, block, self.symmetric, negative=form != "dequantize")
        told = _row(sites[0], values, rows, blocks, form)
        return _Filed(tuple(sites), values.shape, values.dtype, blocks, form, told)


class _Filed(NamedTuple):
    """A weight as it will be filed, for all that read it; `row` is what the details say of it."""

    sites: tuple[Site, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    blocks: Blocks
    form: str
    row: dict[str, Json]


def _names(made: Iterable[_Filed], left: Iterable[Left]) -> list[str]:
    named = [site.name for each in made for site in each.sites]
    return list(dict.fromkeys([*named, *(each.name for each in left)]))


def _told(made: Sequence[_Filed], left: Sequence[Left]) -> str:
    before, after = (sum(int(str(each.row[key])) for each in made) for key in ("bytes_before", "bytes_after"))
    return (
        f"filed {len(made)} of {len(made) + len(left)} weights, {before / 1024:.0f} KiB in {after / 1024:.0f}"
    )


def _row(site: Site, values: Array, rows: Singles, blocks: Blocks, form: str) -> dict[str, Json]:
    zeros = 0 if blocks.zeros is None else blocks.zeros.size * blocks.bits
    filed = int(values.size) * blocks.bits + blocks.steps.size * 32 + zeros
    sizes = {"bytes_before": int(values.nbytes), "bytes_after": -(-filed // 8)}
    return row(site, blocks.bits, int(blocks.steps.size), blocks.away(rows), form=form, **sizes)


def _is_product(site: Site, view: View, form: str) -> bool:
    """Tell whether a site is a product that `form` has a way of its own to write."""
    node = site.node
    if site.slot != 1 or node.op not in ("Gemm", "MatMul") or len(site.rows.split) != 2:
        return False
    if form != "matmul_nbits":
        return True
    if node.op == "MatMul":
        rank = view.rank(node.inputs[0])
        return rank is not None and rank > 1
    plain = real(node, "alpha", 1.0) == 1.0 and real(node, "beta", 1.0) == 1.0
    return plain and not integer(node, "transA", 0)


def _write(model: Model, made: Sequence[_Filed]) -> None:
    names = Names(model)
    for each in made:
        if each.form == "matmul_nbits":
            for site in each.sites:
                _put_product(model, site, each.blocks, names)
            model.opsets.setdefault(MICROSOFT, 1)
        elif each.form == "dequantize":
            _put_weight(model, each, names)
            for site in each.sites:
                site.node.attrs.pop("transB", None)
        else:
            _put_weight(model, each, names)
    drop_unused(model.graph)


def _put_weight(model: Model, filed: _Filed, names: Names) -> None:
    """Let all that read a weight read what is made of its codes, written where the weight was."""
    weight = filed.sites[0].weight
    graph = _home(model, weight)
    writer = Writer(model, graph, weight.name, names)
    if filed.form == "dequantize":
        made = dequantised(writer, filed.blocks)
    else:
        made = expanded(writer, filed.blocks, filed.sites[0].rows, filed.shape, filed.dtype)
    kinds = [np.dtype(node.inputs[0].dtype).name for node in writer.made]
    model.ir_version = max(model.ir_version, *(_IR_VERSIONS.get(kind, 3) for kind in kinds if kind))
    for site in filed.sites:
        site.node.inputs[site.slot] = made
    graph.nodes[:0] = writer.made


def _home(model: Model, weight: gs.Tensor) -> gs.Graph:
    """Return the graph that files a constant: as an initializer, or as a node."""
    return next(
        graph
        for graph in all_graphs(model.graph)
        if graph.initializers.get(weight.name) is weight
        or any(node is maker for maker in weight.inputs for node in graph.nodes)
    )


def _put_product(model: Model, site: Site, blocks: Blocks, names: Names) -> None:
    """Put MatMulNBits in the place of a product, with what that adds as its bias where it is a vector."""
    writer = Writer(model, site.graph, site.name, names)
    added = source(site.node, 2)
    bias = None if added is None else constant_value(added)
    if bias is not None and bias.shape != (len(blocks.codes),):
        bias = None
    result = packed_product(writer, site.node.inputs[0], blocks, bias)
    if added is not None and bias is None:
        result = writer.op("Add", result, added)
    writer.take_place(site.node, result)


def _slow(before: Model, made: Sequence[_Filed]) -> Model:
    """Return the model as it was, with floats in the place of weights that are what the codes stand for."""
    model = before.clone()
    names, nodes = Names(model), all_nodes(model.graph)
    writer = Writer(model, model.graph, "rounded", names)
    for each in made:
        values = each.sites[0].rows.restore(each.blocks.expand(), each.shape)
        weight: gs.Tensor = writer.floats(values, "weight")
        if each.dtype != np.float32:
            weight = writer.op("Cast", weight, to=numpy_dtype_to_onnx(each.dtype))
        for site in each.sites:
            nodes[site.place].inputs[site.slot] = weight
    model.graph.nodes[:0] = writer.made
    drop_unused(model.graph)
    return model


__all__ = ["WeightOnly"]
