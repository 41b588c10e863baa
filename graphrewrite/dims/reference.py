"""The slow model a cut is proved against: the original graph, with mixing restricted to kept positions.

Nothing is cut and no label or attribute changes. Only where positions influence each other (contractions, softmax,
statistics) dead positions are masked out; everywhere else dead positions carry whatever they carry. It never sees the
numbers the surgery restates, so a wrong restatement or a missing tie shows as a difference.
"""

from collections.abc import Callable, Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.dims import reference_fused, reference_norms
from graphrewrite.dims.axes import Axis
from graphrewrite.dims.reference_norms import BY_MASK, kept_ratio, wide
from graphrewrite.dims.reference_ragged import restrict_members
from graphrewrite.dims.sweep import Analysis, Mix
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Array, Model, Namer
from graphrewrite.ir.edit import add_constant, all_graphs, all_nodes, set_input
from graphrewrite.ir.garbage import paused
from graphrewrite.ir.values import numpy_dtype_to_onnx

Mask = npt.NDArray[np.bool_]
DType = np.dtype[np.generic]


@paused()
def reference(analysis: Analysis, dead: Mask) -> tuple[Model, list[gs.Node]]:
    """Build the reference for a cut (`dead` is a mask over all labels), and the original's nodes in it by index."""
    build = Reference(analysis, dead)
    for mix in analysis.mixes:
        if mix.members is not None:
            simple = _FILL.get(mix.kind)
            value = simple(build.dtype(build.original(build.nodes[mix.node], mix.slot))) if simple else 0
            restrict_members(build, mix, mix.members, value)
        alive = {number: build.alive(axis) for number, axis in mix.axes.items()}
        if any(not a.all() for a in alive.values()):
            build.restrict(mix, alive)
    build.place()
    return build.model, build.nodes


class Reference:
    """The graph under construction: nodes to put before and after the original ones, and who is alive."""

    def __init__(self, analysis: Analysis, dead: Mask) -> None:
        self.analysis = analysis
        self.dead = dead
        self.model = analysis.model.clone()
        self.graph = self.model.graph
        self.nodes = all_nodes(self.graph)
        self.namer = Namer(self.graph)
        self.opset = self.model.opset
        self._before: dict[int, list[gs.Node]] = {}
        self._after: dict[int, list[gs.Node]] = {}
        self._alive: dict[int, Mask] = {}

    def alive(self, axis: Axis) -> Mask:
        """Return which positions of an axis stay."""
        found = self._alive.get(id(axis))
        if found is None:
            found = np.asarray(~self.dead[self.analysis.rows(axis)].any(axis=1))
            self._alive[id(axis)] = found
        return found

    def restrict(self, mix: Mix, alive: dict[int, Mask]) -> None:
        """Mask one place where positions mix."""
        node = self.nodes[mix.node]
        simple = _FILL.get(mix.kind)
        if simple is not None:
            self._mask(node, mix.slot, alive, simple(self.dtype(node.inputs[mix.slot])))
        elif mix.kind == "mean":
            self._mask(node, 0, alive, 0)
            self.scale_output(node, kept_ratio(alive))
        elif mix.kind == "quantized":
            self._mask(node, mix.slot, alive, 0, _zero_point(node, mix.slot))
        elif mix.kind == "rnn":
            self._recurrent(node, alive)
        elif mix.kind in BY_MASK:
            rank = self.rank(self.original(node, mix.slot))
            BY_MASK[mix.kind](self, node, self.mask(rank, alive), kept_ratio(alive))
        elif mix.kind in _WRITTEN_OUT:
            _WRITTEN_OUT[mix.kind](self, node, alive)
        else:
            raise UnsupportedOp(
                f"the proof has no reference for mixing of kind {mix.kind!r} at {node.name}; please report it"
            )

    # --- pieces ---------------------------------------------------------------------------------------------------

    def emit(self, before: gs.Node, op: str, *inputs: gs.Tensor, **attrs: object) -> gs.Variable:
        """Add a node before another and return its output."""
        name = self.namer.fresh(f"reference.{op.lower()}")
        out = gs.Variable(name)
        self._before.setdefault(id(before), []).append(gs.Node(op, name, attrs, list(inputs), [out]))
        return out

    def const(self, values: Array) -> gs.Constant:
        """File a constant."""
        return add_constant(self.graph, self.namer.fresh("reference.constant"), values)

    def mask(self, rank: int, alive: dict[int, Mask]) -> gs.Constant:
        """Return the kept positions as a boolean tensor that broadcasts over rank `rank`."""
        total: Mask = np.ones([1] * rank, dtype=bool)
        for number, positions in alive.items():
            shape = [1] * rank
            shape[number] = len(positions)
            total = total & positions.reshape(shape)
        return self.const(total)

    def rank(self, tensor: gs.Tensor) -> int:
        """Return a tensor's rank."""
        shape = self.analysis.info.shape(tensor.name)
        assert shape is not None
        return len(shape)

    def dtype(self, tensor: gs.Tensor) -> np.dtype[np.generic]:
        """Return a tensor's element type, float32 where nothing is known."""
        return np.dtype(self.analysis.info.dtype(tensor.name) or np.float32)

    def _mask(
        self,
        node: gs.Node,
        slot: int,
        alive: dict[int, Mask],
        value: float,
        filler: gs.Tensor | None = None,
    ) -> None:
        # The analysis knows the tensor under its first name: a second mask of the same input sees another tensor.
        rank = self.rank(self.original(node, slot))
        self.fill(node, slot, self.mask(rank, alive), value, filler)

    def fill(
        self, node: gs.Node, slot: int, keep: gs.Tensor, value: float, filler: gs.Tensor | None = None
    ) -> None:
        """Put `filler` or else `value` where `keep` is false (before opset 9 a constant), ahead of an input."""
        x, dtype = node.inputs[slot], self.dtype(self.original(node, slot))
        if self.opset >= 9:
            other = filler if filler is not None else self.const(np.asarray(value, dtype=dtype))
            set_input(node, slot, self.emit(node, "Where", keep, x, other))
            return
        # Before opset 9 there is no Where: the same by arithmetic (an infinity at a dead position would survive it).
        share = np.asarray(keep.values).astype(dtype)
        masked = self.emit(node, "Mul", x, self.const(share))
        filled = self.emit(node, "Add", masked, self.const((1 - share) * np.asarray(value, dtype=dtype)))
        set_input(node, slot, filled)

    def _index(self, node: gs.Node) -> int:
        if not hasattr(self, "_indices"):
            self._indices = {id(each): i for i, each in enumerate(self.nodes)}
        return self._indices[id(node)]

    def original(self, node: gs.Node, slot: int) -> gs.Tensor:
        """Return the tensor an input came from before anything was put between."""
        return self.analysis.nodes[self._index(node)].inputs[slot]

    def scale_output(self, node: gs.Node, ratio: float) -> None:
        """Multiply the first output."""
        out = node.outputs[0]
        raw = gs.Variable(self.namer.fresh(f"{out.name}.raw"))
        dtype = self.dtype(out)
        node.outputs = [raw]
        after = self._after.setdefault(id(node), [])

        def add(op: str, inputs: Sequence[gs.Tensor], result: gs.Tensor, **attrs: object) -> gs.Tensor:
            after.append(
                gs.Node(op, self.namer.fresh(f"reference.{op.lower()}"), attrs, list(inputs), [result])
            )
            return result

        # In half precision the ratio itself would be rounded, by more than the proof allows.
        single = wide(dtype)
        scale = self.const(np.asarray(ratio, dtype=single))
        if single == dtype:
            add("Mul", [raw, scale], out)
            return
        up = add("Cast", [raw], gs.Variable(self.namer.fresh("reference.up")), to=numpy_dtype_to_onnx(single))
        scaled = add("Mul", [up, scale], gs.Variable(self.namer.fresh("reference.scaled")))
        add("Cast", [scaled], out, to=numpy_dtype_to_onnx(dtype))

    def _recurrent(self, node: gs.Node, alive: dict[int, Mask]) -> None:
        if 2 in alive and not alive[2].all():
            self._mask(node, 0, {2: alive[2]}, 0)
        if -1 in alive and not alive[-1].all():
            self._mask(node, 2, {2: alive[-1]}, 0)

    def replace(self, node: gs.Node, results: Sequence[gs.Tensor | None]) -> None:
        """Let the outputs of a node come from these tensors instead; None leaves an output as it is."""
        outs = list(node.outputs)
        node.outputs = [
            out if result is None else gs.Variable(self.namer.fresh(f"{out.name}.unused"))
            for out, result in zip_longest(outs, results[: len(outs)])
        ]
        for out, result in zip(outs, results, strict=False):
            if out.name and result is not None:
                after = self._before.setdefault(id(node), [])
                after.append(gs.Node("Identity", self.namer.fresh("reference.out"), {}, [result], [out]))

    def place(self) -> None:
        """Put the new nodes beside the ones they belong to."""
        for graph in list(all_graphs(self.graph)):
            ordered: list[gs.Node] = []
            for node in graph.nodes:
                ordered.extend(self._before.get(id(node), ()))
                if any(tensor.name and not tensor.name.endswith(".unused") for tensor in node.outputs):
                    ordered.append(node)
                ordered.extend(self._after.get(id(node), ()))
            graph.nodes = ordered


_FILL: dict[str, Callable[[np.dtype[np.generic]], float]] = {
    "zero": lambda dtype: 0,
    "neighbours": lambda dtype: 0,
    "one": lambda dtype: 1,
    "attention": lambda dtype: 0,
    "softmax": lambda dtype: -6e4 if dtype.itemsize < 4 else -1e30,
    "lowest": lambda dtype: _extreme(dtype, -1),
    "highest": lambda dtype: _extreme(dtype, 1),
}

_WRITTEN_OUT: dict[str, Callable[[Reference, gs.Node, dict[int, Mask]], None]] = {
    **reference_fused.WRITTEN_OUT,
    **reference_norms.WRITTEN_OUT,
}


# Which input of an operator holds the zero point of another.
_ZERO_POINT = {
    ("ConvInteger", 0): 2,
    ("MatMulInteger", 0): 2,
    ("MatMulIntegerToFloat", 0): 4,
    ("QAttention", 0): 6,
    ("QAttention", 1): 7,
    ("QGemm", 0): 2,
    ("QLinearConv", 0): 2,
    ("QLinearMatMul", 0): 2,
}


def _zero_point(node: gs.Node, of: int) -> gs.Tensor | None:
    """Return the zero point of input `of`, None where it is left out and so 0."""
    slot = _ZERO_POINT[node.op, of]
    return node.inputs[slot] if slot < len(node.inputs) and node.inputs[slot].name else None


def _extreme(dtype: DType, side: int) -> float:
    """Return a value beyond what a tensor of this type usually holds."""
    if dtype.kind in "iu":
        bits = 8 * dtype.itemsize
        low, high = (0, 2**bits - 1) if dtype.kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return high if side > 0 else low
    return side * (6e4 if dtype.itemsize < 4 else 3e38)


__all__ = ["Reference", "reference"]
