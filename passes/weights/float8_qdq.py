"""The pass that rounds weights and activations to float8, for accelerators that multiply such numbers.

onnxruntime's kernels for processors have no float8, but its fusions for integers do not look at the type of codes
(1.31): they put integer operators in the place of layers between quantisers, which then cannot be loaded, take a Relu
away before a quantiser that does not end at zero, and move shapes to where numbers are codes. None of it happens where
their patterns are not met, so two operators that change nothing stand in the way: a LeakyRelu of slope 1 before a
quantiser, and a Reshape behind the codes of a matrix. Runtimes with float8 see quantisers before both inputs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.data import collect
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model, constant_value
from graphrewrite.ir.edit import drop_unused, sort_nodes
from graphrewrite.ir.garbage import paused
from graphrewrite.ir.values import numpy_dtype_to_onnx
from graphrewrite.match.view import View
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.patterns import as_tuples, check_weights_named
from graphrewrite.passes.quant.calibrators.min_max import MinMaxRange
from graphrewrite.passes.quant.grid import GRIDS
from graphrewrite.passes.tidy.reading import integer
from graphrewrite.passes.weights.blocks import FLOAT8, LARGEST, Blocks, rounded_to_float8
from graphrewrite.passes.weights.outcomes import outcome, row, too_old
from graphrewrite.passes.weights.sites import Left, Picked, Site, sites
from graphrewrite.pipeline import Claim, Context, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json

OLDEST_OPSET, _IR_VERSION = 19, 9  # the first that have float8
_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})


@passes.register("float8_qdq")
@dataclass(frozen=True)
class Float8Qdq:
    """Round weights and what they multiply to float8, with QuantizeLinear and DequantizeLinear around both.

    Args:
        codes: "float8_e4m3fn" (3 bits of fraction, up to 448) or "float8_e5m2" (2 bits, up to 57344).
        smallest: layers with fewer weights stay in floats.
        only: patterns (`*` is any text) of the layers to round; empty for all.
        skip: patterns of layers to leave in float.
        batch: samples that are run together to find ranges.

    Layers are Conv, Gemm and MatMul with a constant weight, outside of bodies. A weight has a scale for each output, an
    activation one in all: the largest value seen on the context's data gets the largest code, and what is larger later
    is cut. Operator set 19. Processors compute in floats between the roundings, and not faster: the file is for
    accelerators. The claim is equality with a graph of floats in which values are cast to float8 and back.
    """

    codes: str = "float8_e4m3fn"
    smallest: int = 1024
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    batch: int = 16

    claim: ClassVar[Claim] = SameAs(
        1e-5, "the input model in floats with every rounding written out as casts"
    )

    def __post_init__(self) -> None:
        if self.codes not in FLOAT8:
            raise InvalidConfig(
                f"Float8Qdq.codes is {self.codes!r}; expected one of {', '.join(FLOAT8)}; choose one"
            )
        if isinstance(self.batch, bool) or self.batch < 1:
            raise InvalidConfig(f"Float8Qdq.batch is {self.batch!r}; expected a whole number of at least 1")
        as_tuples(self, "only", "skip")

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Round every layer that can be, and say why the others stay.

        Raises:
            InvalidConfig: there is no data to find ranges on.
        """
        if model.opset < OLDEST_OPSET:
            why = f"its operator set is {model.opset}; float8 needs {OLDEST_OPSET}: convert it (RaiseOpset)"
            return too_old(model, why)
        before, view = model.clone(), View(model)
        found: list[tuple[Site, tuple[int, ...]]] = []
        left: list[Left] = []
        picked = Picked(self.only, self.skip, self.smallest)
        for site in sites(model, _LAYERS):
            reason = site.why if isinstance(site, Left) else _why_not(site, view) or picked.why_not(site)
            if reason is not None:
                left.append(Left(site.name, reason))
            elif isinstance(site, Site):
                found.append((site, _seen_as(site, view)))
        named = [site.name for site, _ in found] + [each.name for each in left]
        check_weights_named((*self.only, *self.skip), named)
        steps = self._steps(before, [site.node.inputs[0].name for site, _ in found], context)
        made = [self._rounded(site, shape, steps[site.node.inputs[0].name]) for site, shape in found]
        if made:
            _write(model, made, _Quantisers(self.codes))
            model.ir_version = max(model.ir_version, _IR_VERSION)
        told = f"quantised {len(made)} of {len(made) + len(left)}"
        nothing = "it has no layer with a constant weight"
        return outcome(
            model, [each.row for each in made], left, told, nothing, partial(_slow, before, made, self.codes)
        )

    def _steps(self, model: Model, tensors: Sequence[str], context: Context) -> dict[str, np.float32]:
        """Return what the code 1 of each activation stands for."""
        if not tensors:
            return {}
        if context.data is None:
            raise InvalidConfig(
                f"Float8Qdq finds the ranges of {len(set(tensors))} activations on samples, and there is no data; "
                "expected Context(data=...), or --data on the command line; some hundred samples without labels do"
            )
        how = MinMaxRange()
        seen = {name: how.accumulator() for name in dict.fromkeys(tensors)}
        collect(model, context.data, seen, self.batch, context.seed, context.progress, context.threads)
        spans = {name: how.span(each.result(), GRIDS["int8_symmetric"]) for name, each in seen.items()}
        largest = np.float32(LARGEST[self.codes])
        ends = {name: np.float32(max(abs(span.low), abs(span.high))) for name, span in spans.items()}
        return {name: end / largest if end else np.float32(1) for name, end in ends.items()}

    def _rounded(self, site: Site, seen_as: tuple[int, ...], step: np.float32) -> "_Rounded":
        values = constant_value(site.weight)
        assert values is not None
        rows = site.rows.of(values)
        blocks = rounded_to_float8(rows, self.codes, 0)
        told = row(site, 8, int(blocks.steps.size), blocks.away(rows), activations=self.codes)
        return _Rounded(site, blocks, values.shape, seen_as, step, told)


class _Rounded(NamedTuple):
    """A layer as it will be: the rows of its weight of some shape as codes, and the step of what it reads.

    `seen_as` is the shape in which it reads the weight, `row` what the details say.
    """

    site: Site
    blocks: Blocks
    shape: tuple[int, ...]
    seen_as: tuple[int, ...]
    step: np.float32
    row: dict[str, Json]


class _Quantisers(NamedTuple):
    """The rounded tensors as codes between quantisers."""

    kind: str

    def activation(self, writer: Writer, x: gs.Tensor, step: np.float32) -> gs.Variable:
        guarded = x if not len(x.inputs) else writer.op("LeakyRelu", x, alpha=1.0)
        scale = writer.floats(np.asarray(step), "step")
        zero = writer.constant(np.zeros((), FLOAT8[self.kind]), "zero")
        return writer.op("DequantizeLinear", writer.op("QuantizeLinear", guarded, scale, zero), scale, zero)

    def weight(self, writer: Writer, made: _Rounded) -> gs.Tensor:
        codes, steps = made.site.rows.restore(made.blocks.codes, made.shape), made.blocks.steps.reshape(-1)
        zeros = writer.constant(np.zeros(steps.shape, FLOAT8[self.kind]), "zeros")
        axis = made.site.rows.order[0]
        scales = writer.floats(steps, "steps")
        values = writer.op("DequantizeLinear", writer.constant(codes, "codes"), scales, zeros, axis=axis)
        if made.site.node.op == "Conv":
            return values
        return writer.op("Reshape", values, writer.ints(made.seen_as, "shape"))


class _Casts(NamedTuple):
    """The same in floats."""

    kind: str

    def activation(self, writer: Writer, x: gs.Tensor, step: np.float32) -> gs.Variable:
        scale = writer.floats(np.asarray(step), "step")
        codes = writer.op("Cast", writer.op("Div", x, scale), to=numpy_dtype_to_onnx(FLOAT8[self.kind]))
        return writer.op("Mul", writer.op("Cast", codes, to=1), scale)

    def weight(self, writer: Writer, made: _Rounded) -> gs.Tensor:
        return writer.floats(made.site.rows.restore(made.blocks.expand(), made.shape), "rounded")


def _why_not(site: Site, view: View) -> str | None:
    node, x = site.node, site.node.inputs[0]
    if site.graph is not view.graph:
        return "it is in the body of a loop or a branch, where samples are not looked at"
    if site.slot != 1:
        return "its first input is the constant one"
    if view.dtype(x) != np.float32 or isinstance(x, gs.Constant):
        return "what it reads is not computed in float32"
    if node.op == "Gemm" and integer(node, "transA", 0):
        return "it transposes its input"
    if node.op == "MatMul" and len(site.rows.split) != 2:
        return "its weight is a batch of matrices"
    if node.op == "MatMul" and (view.rank(x) or 0) < 2:
        return "the number of axes of what it reads is not known, or is one"
    return None


def _seen_as(site: Site, view: View) -> tuple[int, ...]:
    """Return the shape in which a layer reads its weight: with as many axes as its input, a product stays one."""
    shape = tuple(int(size) for size in site.weight.shape)
    more = (view.rank(site.node.inputs[0]) or 0) - 2 if site.node.op == "MatMul" else 0
    return (1,) * more + shape


def _write(model: Model, made: Sequence[_Rounded], style: "_Quantisers | _Casts") -> None:
    """Let layers read rounded tensors; what several of them read is rounded once."""
    names, graph = Names(model), model.graph
    rounded: dict[str, gs.Variable] = {}
    nodes: list[gs.Node] = []
    for each, node in zip(made, _layers(model, made), strict=True):
        x, weight = node.inputs[0], node.inputs[1]
        if x.name not in rounded:
            writer = Writer(model, graph, x.name, names)
            rounded[x.name] = style.activation(writer, x, each.step)
            nodes += writer.made
        writer = Writer(model, graph, weight.name, names)
        node.inputs[0], node.inputs[1] = rounded[x.name], style.weight(writer, each)
        nodes += writer.made
    graph.nodes.extend(nodes)
    sort_nodes(graph)
    drop_unused(graph)


def _layers(model: Model, made: Sequence[_Rounded]) -> Iterator[gs.Node]:
    """Yield the nodes of layers in a model or a copy of it, which has them at the same places."""
    present = list(model.graph.nodes)
    yield from [present[each.site.place] for each in made]


def _slow(before: Model, made: Sequence[_Rounded], kind: str) -> Model:
    model = before.clone()
    _write(model, made, _Casts(kind))
    return model


__all__ = ["Float8Qdq"]
