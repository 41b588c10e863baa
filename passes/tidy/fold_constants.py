"""What does not depend on the inputs is computed once: by known values where shapes tell them, else by onnxruntime.

The result must not be much larger than what it was made from: an Expand or Tile of a scalar stays in the graph when
the file would grow by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import onnx
import onnx_graphsurgeon as gs

from graphrewrite.errors import GraphRewriteError
from graphrewrite.ir import Array, Model
from graphrewrite.ir.edit import subgraphs_of
from graphrewrite.ir.symbols import Real, Sym
from graphrewrite.match import Draft, Rule, RuleSet, is_default_domain, rule
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.reading import all_ints, bytes_of
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

# Different on every run, or no plain tensors come out.
UNSTABLE = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
_NO_TENSORS = ("Sequence", "Optional", "SplitToSequence", "StringNormalizer", "ImageDecoder")
# Folding these would turn a quantized weight back into a large one.
_QUANTIZATION = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
# From tiny inputs these can make anything: without a known size they are left alone.
_GROWING = frozenset(
    {"Expand", "Tile", "ConstantOfShape", "Range", "EyeLike", "Resize", "Upsample", "Pad", "OneHot"}
)


# Weights in fewer bytes than their numbers take are unpacked by each session; smaller ones gain the file nothing.
_PACKED_BYTES = 64

# Constants up to this size go into the small model as they are; operators may want to know them beforehand.
_INLINE_BYTES = 1 << 10


@rule("Constant", name="Constant node made an initializer")
def constants(draft: Draft, node: gs.Node) -> Result:
    """Turn the output of a `Constant` node into an initializer."""
    out = node.outputs[0]
    stored = node.attrs.get("value")
    if draft.is_output(out):
        return False
    if isinstance(stored, gs.Constant):
        return draft.make_constant(out, stored)
    values = draft.constant(out)
    return values is not None and values.dtype != object and draft.make_constant(out, values)


class KnownValues(Rule):
    """A small tensor whose value follows from sizes that never vary becomes an initializer."""

    name = "value known from static sizes"

    def apply(self, draft: Draft, node: gs.Node) -> Result:
        """Replace every used output of `node` that has a known value."""
        if node.op == "Constant" or node.op in _QUANTIZATION or node.op in UNSTABLE:
            return False
        changed = False
        for out in list(node.outputs):
            if out.is_empty() or not draft.use_count(out):
                continue
            values = known_numbers(draft, out)
            if values is not None and not _Freed.of(draft, out).is_packed(values.nbytes):
                changed = draft.make_constant(out, values) or changed
        return changed


def known_numbers(draft: Draft, tensor: gs.Tensor) -> Array | None:
    """Return the value of a small tensor when it is the same in every run."""
    values, dtype = draft.value(tensor), draft.dtype(tensor)
    if values is None or dtype is None or dtype.kind == "O":
        return None
    if values.dtype == object:
        if any(isinstance(item, (Sym, Real)) for item in values.reshape(-1).tolist()):
            return None
        values = values.astype(dtype)
    sizes = all_ints(draft.shape(tensor))
    if values.dtype != dtype or (sizes is not None and sizes != values.shape):
        return None
    return values


class Folder:
    """Computes what hangs on constants only, all nodes of a round in one onnxruntime session.

    Attributes:
        left: constant tensors that were not folded: name -> reason.
    """

    kind = "constant folded"

    def __init__(self, draft: Draft, max_bytes: int) -> None:
        self.draft = draft
        self.max_bytes = max_bytes
        self.left: dict[str, str] = {}
        self._refused: set[int] = set()

    def run(self) -> list[str]:
        """Fold everything foldable; return the names of the tensors that became initializers.

        Where onnxruntime cannot compute a batch, its halves are tried, down to the node that is to blame.
        """
        folded: list[str] = []
        batches = [self._foldable()]
        while batches:
            nodes = self._reachable(batches.pop())
            wanted = self._wanted(nodes)
            if not wanted:
                continue
            try:
                values = _run(self.draft, _ancestors(nodes, wanted), wanted)
            except GraphRewriteError as problem:
                if len(nodes) == 1:
                    self._refused.add(id(nodes[0]))
                    self._leave(wanted[0], f"onnxruntime cannot compute it ({problem})")
                else:
                    batches += [nodes[len(nodes) // 2 :], nodes[: len(nodes) // 2]]
                continue
            for tensor, array in zip(wanted, values, strict=True):
                name = tensor.name
                if self.draft.make_constant(tensor, array):
                    folded.append(name)
        return folded

    def _wanted(self, nodes: Sequence[gs.Node]) -> list[gs.Tensor]:
        """Return the results other nodes need, less those that are too large to store."""
        chosen = {id(node) for node in nodes}
        return [
            out
            for node in nodes
            for out in node.outputs
            if not out.is_empty() and self._leaves(out, chosen) and not self._too_large(node, out)
        ]

    def _reachable(self, nodes: Sequence[gs.Node]) -> list[gs.Node]:
        """Return the living nodes that hang on constants and on each other only."""
        inside: set[int] = set()
        kept = []
        for node in nodes:
            if not self.draft.is_alive(node) or id(node) in self._refused:
                continue
            if all(t.is_empty() or id(t) in inside or self.draft.is_constant(t) for t in node.inputs):
                kept.append(node)
                inside.update(id(out) for out in node.outputs)
        return kept

    def _foldable(self) -> list[gs.Node]:
        draft = self.draft
        constant: set[int] = set()
        nodes = []
        for node in draft.nodes():
            if id(node) in self._refused or not _is_computable(node):
                continue
            sources = [tensor for tensor in node.inputs if not tensor.is_empty()]
            if not all(id(tensor) in constant or draft.is_constant(tensor) for tensor in sources):
                continue
            if not sources:
                continue
            if node.op in _GROWING and any(self._size_problem(node, out) for out in node.outputs):
                for out in node.outputs:
                    self._leave(out, self._size_problem(node, out))
                continue
            nodes.append(node)
            constant.update(id(out) for out in node.outputs)
        return nodes

    def _leaves(self, tensor: gs.Tensor, chosen: set[int]) -> bool:
        """Tell whether something outside the folded nodes reads a tensor."""
        if self.draft.is_output(tensor):
            return True
        return any(id(user) not in chosen for user in self.draft.users(tensor))

    def _too_large(self, node: gs.Node, out: gs.Tensor) -> bool:
        problem = self._size_problem(node, out)
        self._leave(out, problem)
        if problem:
            self._refused.add(id(node))
        return bool(problem)

    def _leave(self, tensor: gs.Tensor, problem: str) -> None:
        if problem:
            self.left[tensor.name] = problem

    def _size_problem(self, node: gs.Node, out: gs.Tensor) -> str:
        """Return why a result must not be stored, an empty text when it may.

        It may be as large as the numbers that go away with it (weights nothing else reads), or as the limit. What
        was filed in bytes to be small stays so: runtimes unpack it when they load the model.
        """
        if out.is_empty():
            return ""
        size = bytes_of(self.draft, out)
        if size is None:
            return "its size is not known beforehand" if node.op in _GROWING else ""
        freed = _Freed.of(self.draft, out)
        if freed.is_packed(size):
            return "it is filed in fewer bytes, and unpacked when the model is loaded"
        if size <= self.max_bytes or size <= freed.all:
            return ""
        limit = f"the limit of {self.max_bytes / 1e6:.1f} MB"
        return f"{size / 1e6:.1f} MB, more than the constants it would replace and {limit}"


class _Freed(NamedTuple):
    """Bytes of the constants that only one tensor hangs on, and of those among them that are numbers of a byte."""

    all: int
    packed: int

    @classmethod
    def of(cls, draft: Draft, out: gs.Tensor) -> "_Freed":
        """Count them behind the tensor."""
        total, packed, seen = 0, 0, set()
        maker = draft.producer(out)
        stack = list(maker.inputs) if maker is not None else []
        while stack:
            tensor = stack.pop()
            if id(tensor) in seen or tensor.is_empty() or draft.use_count(tensor) > 1:
                continue
            seen.add(id(tensor))
            if isinstance(tensor, gs.Constant):
                size, dtype = int(tensor._values.nbytes), draft.dtype(tensor)
                total += size
                is_byte = dtype is not None and dtype.itemsize == 1 and dtype.kind != "b"
                packed += size if is_byte else 0
                continue
            maker = draft.producer(tensor)
            if maker is not None:
                stack.extend(maker.inputs)
        return cls(total, packed)

    def is_packed(self, size: int) -> bool:
        """Tell whether they are a weight of so many bytes, filed in fewer."""
        return self.packed > _PACKED_BYTES and size > self.all


def _is_computable(node: gs.Node) -> bool:
    if (
        not is_default_domain(node)
        or node.op in UNSTABLE
        or node.op in _QUANTIZATION
        or node.op == "Constant"
    ):
        return False
    if node.op.startswith(_NO_TENSORS) or any(True for _ in subgraphs_of(node)):
        return False
    return str(node.op) != "Dropout"


def _ancestors(nodes: Sequence[gs.Node], wanted: Sequence[gs.Tensor]) -> list[gs.Node]:
    chosen = {id(node) for node in nodes}
    needed: set[int] = set()
    stack = list(wanted)
    while stack:
        for maker in stack.pop().inputs:
            if id(maker) in chosen and id(maker) not in needed:
                needed.add(id(maker))
                stack.extend(maker.inputs)
    return [node for node in nodes if id(node) in needed]


def _run(draft: Draft, nodes: Sequence[gs.Node], wanted: Sequence[gs.Tensor]) -> list[Array]:
    """Compute tensors in onnxruntime. Large constants are fed, so that none is copied into a proto."""
    from graphrewrite.runtime import run

    twins: dict[int, gs.Tensor] = {}
    graph = gs.Graph(nodes=[], inputs=[], outputs=[], name="constants", opset=draft.opset)
    graph.initializers = {}
    graph.shell = onnx.GraphProto()
    feeds: dict[str, Array] = {}

    def twin(tensor: gs.Tensor) -> gs.Tensor:
        if tensor.is_empty():
            return gs.Variable.empty()
        if id(tensor) not in twins:
            twins[id(tensor)] = _source(draft, tensor, graph, feeds)
        return twins[id(tensor)]

    for node in nodes:
        outputs = []
        for out in node.outputs:
            twins[id(out)] = gs.Variable(out.name)
            outputs.append(twins[id(out)])
        graph.nodes.append(
            gs.Node(
                node.op, node.name, dict(node.attrs), [twin(t) for t in node.inputs], outputs, node.domain
            )
        )
    for tensor in wanted:
        twins[id(tensor)].dtype = draft.dtype(tensor)
    graph.outputs = [twins[id(tensor)] for tensor in wanted]
    small = Model(graph, dict(draft.model.opsets), shell=onnx.ModelProto(ir_version=draft.model.ir_version))
    values = run(small, feeds, threads=1)
    return [values[tensor.name] for tensor in wanted]


def _source(draft: Draft, tensor: gs.Tensor, graph: gs.Graph, feeds: dict[str, Array]) -> gs.Tensor:
    """Return the stand-in of a constant: an initializer where small, else an input that is fed."""
    values = draft.constant(tensor)
    assert values is not None
    if values.nbytes <= _INLINE_BYTES:
        constant = gs.Constant(tensor.name, values)
        graph.initializers[tensor.name] = constant
        return constant
    fed = gs.Variable(tensor.name, draft.dtype(tensor), list(values.shape))
    graph.inputs.append(fed)
    feeds[tensor.name] = values
    return fed


@passes.register("fold_constants")
@dataclass(frozen=True)
class FoldConstants:
    """Compute once what does not depend on the inputs.

    `max_constant_bytes` is how much larger than what it replaces a folded constant may be.
    """

    claim: ClassVar[Claim] = Same()

    max_constant_bytes: int = 1 << 20

    def run(self, model: Model, context: Context) -> Outcome:
        """Fold them."""
        rules = RuleSet.of(constants, KnownValues())
        return tidy(model, lambda: rules, (lambda draft: Folder(draft, self.max_constant_bytes),))
