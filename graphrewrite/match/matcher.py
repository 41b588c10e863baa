"""Does this node match that pattern? The answer is a `Match`, or a `Refusal` that says where it ended and why."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.errors import UnknownNameError
from graphrewrite.ir import Array
from graphrewrite.match.draft import Draft
from graphrewrite.match.pattern import COMMUTATIVE, Anything, Const, Number, OneOf, Op, Pattern
from graphrewrite.match.view import is_default_domain

_Bound: TypeAlias = dict[str, "gs.Tensor | gs.Node"]
_Sources: TypeAlias = tuple["gs.Tensor | None", ...]

_NUMBER_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Refusal:
    """Why a rewrite does not happen; `node` is where it ended.

    `near` marks what was found but refused, as against what is simply something else.
    """

    reason: str
    node: gs.Node | None = None
    near: bool = False


class RequirementFailed(Exception):
    """Raised by `Match.require`, caught by the rule engine, which keeps the reason."""


@dataclass(frozen=True)
class Match:
    """What the names of a pattern stand for in the graph."""

    draft: Draft
    root: gs.Node
    bound: Mapping[str, "gs.Tensor | gs.Node"] = field(default_factory=dict)

    def tensor(self, name: str) -> gs.Tensor:
        """Return the tensor drawn as `P.name`, `P.const(name)` or `P.number(..., name)`."""
        found = self._find(name)
        assert isinstance(found, gs.Tensor)
        return found

    def node(self, name: str) -> gs.Node:
        """Return the node drawn with `.named(name)`."""
        found = self._find(name)
        assert isinstance(found, gs.Node)
        return found

    def array(self, name: str) -> Array:
        """Return the numbers of a constant."""
        values = self.draft.constant(self.tensor(name))
        assert values is not None
        return values

    def number(self, name: str) -> float:
        """Return the one number of a constant drawn with `P.number`."""
        return float(self.array(name).reshape(-1)[0])

    def has(self, name: str) -> bool:
        """Tell whether a name of an alternative that was not taken is bound."""
        return name in self.bound

    def require(self, condition: bool, reason: str) -> None:
        """Refuse the match with this reason unless the condition holds."""
        if not condition:
            raise RequirementFailed(reason)

    def _find(self, name: str) -> "gs.Tensor | gs.Node":
        if name not in self.bound:
            known = ", ".join(sorted(self.bound)) or "nothing"
            raise UnknownNameError(
                f"the pattern binds no {name!r}; it binds {known}; name a part of the pattern so"
            )
        return self.bound[name]


def match(pattern: Op, node: gs.Node, draft: Draft) -> Match | Refusal:
    """Match a pattern whose last node is `node`."""
    search = _Search(draft)
    for bound in search.node(pattern, node, {}, 0):
        return Match(draft, node, bound)
    return Refusal(search.reason, search.where)


class _Search:
    """Depth-first search over orders and alternatives, as deep as the pattern; remembers the deepest dead end."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.reason = ""
        self.where: gs.Node | None = None
        self._deepest = -1

    def node(self, pattern: Op, node: gs.Node, bound: _Bound, depth: int) -> Iterator[_Bound]:
        if node.op not in pattern.op_types or not is_default_domain(node):
            self._miss(depth, node, f"wanted {' or '.join(pattern.op_types)}, found {node.op}")
            return
        for name, wanted in pattern.attributes:
            value = node.attrs.get(name)
            if not (wanted(value) if callable(wanted) else _same(value, wanted)):
                self._miss(depth + 1, node, f"attribute {name} is {value}")
                return
        if pattern.name:
            if bound.get(pattern.name, node) is not node:
                self._miss(depth + 1, node, f"{pattern.name} is already another node")
                return
            bound = {**bound, pattern.name: node}
        sources: _Sources = tuple(None if tensor.is_empty() else tensor for tensor in node.inputs)
        wanted_inputs = pattern.inputs
        further = any(source is not None for source in sources[len(wanted_inputs) :])
        if further and not pattern.open_ended:
            self._miss(depth + 1, node, f"has {len(sources)} inputs, wanted {len(wanted_inputs)}")
            return
        sources = sources[: len(wanted_inputs)]
        sources += (None,) * (len(wanted_inputs) - len(sources))
        for order in _orders(node.op, sources):
            yield from self._inputs(wanted_inputs, order, bound, depth + 1, node)

    def _inputs(
        self, wanted: tuple[Pattern | None, ...], sources: _Sources, bound: _Bound, depth: int, node: gs.Node
    ) -> Iterator[_Bound]:
        if not wanted:
            yield bound
            return
        for first in self._tensor(wanted[0], sources[0], bound, depth, node):
            yield from self._inputs(wanted[1:], sources[1:], first, depth, node)

    def _tensor(
        self, wanted: Pattern | None, tensor: gs.Tensor | None, bound: _Bound, depth: int, user: gs.Node
    ) -> Iterator[_Bound]:
        if wanted is None or tensor is None:
            if wanted is None and tensor is None:
                yield bound
            else:
                self._miss(
                    depth, user, "an input is left out" if tensor is None else "an input should be left out"
                )
            return
        if isinstance(wanted, OneOf):
            for option in wanted.options:
                yield from self._tensor(option, tensor, bound, depth, user)
            return
        if isinstance(wanted, Op):
            maker = self.draft.producer(tensor)
            if maker is None:
                self._miss(
                    depth,
                    user,
                    f"wanted {' or '.join(wanted.op_types)}, found the input or constant {tensor.name!r}",
                )
            elif not (wanted.output < len(maker.outputs) and maker.outputs[wanted.output] is tensor):
                self._miss(depth, maker, f"{tensor.name!r} is not its output {wanted.output}")
            else:
                yield from self.node(wanted, maker, bound, depth)
            return
        problem = self._leaf_problem(wanted, tensor)
        name = getattr(wanted, "name", "")
        if problem is None and name and bound.get(name, tensor) is not tensor:
            problem = f"{name} is already another tensor than {tensor.name!r}"
        if problem is not None:
            self._miss(depth, user, problem)
            return
        yield {**bound, name: tensor} if name else bound

    def _leaf_problem(self, wanted: Pattern, tensor: gs.Tensor) -> str | None:
        if isinstance(wanted, Anything):
            return None
        values = self.draft.constant(tensor)
        if values is None:
            return f"{tensor.name!r} is not constant"
        if not isinstance(wanted, Number):
            assert isinstance(wanted, Const)
            return None
        if (
            values.size == 0
            or values.dtype.kind not in "fiub"
            or (values.size > 1 and np.any(values != values.flat[0]))
        ):
            return f"{tensor.name!r} is not one number"
        found = float(values.flat[0])
        if wanted.value is not None and abs(found - wanted.value) > _NUMBER_TOLERANCE * max(
            1.0, abs(wanted.value)
        ):
            return f"{tensor.name!r} is {found:g}, wanted {wanted.value:g}"
        return None

    def _miss(self, depth: int, node: gs.Node, reason: str) -> None:
        if depth > self._deepest:
            self._deepest, self.reason, self.where = depth, reason, node


def _orders(op_type: str, sources: _Sources) -> Iterator[_Sources]:
    if op_type in COMMUTATIVE and len(sources) == 2:
        yield from permutations(sources)
    else:
        yield sources


def _same(value: object, wanted: object) -> bool:
    if isinstance(wanted, float) and isinstance(value, (int, float)):
        return abs(value - wanted) <= _NUMBER_TOLERANCE * max(1.0, abs(wanted))
    return bool(value == wanted)
