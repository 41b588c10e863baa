"""Rules, and running them until nothing changes, looking again only at what lies near a change."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx_graphsurgeon as gs

from graphrewrite.match.draft import Draft
from graphrewrite.match.matcher import Match, Refusal, RequirementFailed, match
from graphrewrite.match.pattern import Drawer, Op, P
from graphrewrite.match.view import is_default_domain

Result: TypeAlias = "bool | Refusal"

# Rewrites per node of the graph, on average, before a run is stopped: only rules that undo each other get there.
_BOUND = 20


# A rule that depends on all readers of a tensor must give up on more than this many: see `Engine._follow`.
FEW = 8


class Rule(ABC):
    """One rewrite, tried at every node of the types in `ops` (all types when empty).

    Attributes:
        name: what reports call it.
        ops: types of the node it starts from, the last one of what it looks at.
        reach: how many nodes it looks back from there, hence how far a change is felt.
        opsets: versions of the default operator set it is meant for.
    """

    name: str = ""
    ops: frozenset[str] = frozenset()
    reach: int = 1
    opsets: range = range(1, 1 << 16)

    @abstractmethod
    def apply(self, draft: Draft, node: gs.Node) -> Result:
        """Rewrite at this node; True when something changed, False when the rule is not about this node at all.

        A rule that is about the node and may not rewrite it says why: it returns a `Refusal`, or calls `refuse`.
        """


class PatternRule(Rule):
    """A rule written as three short functions over the same names: what to find, whether, and what to build."""

    def __init__(self) -> None:
        self.pattern = self.find(P)
        self.ops = frozenset(self.pattern.op_types)
        self.reach = max(self.pattern.depth, type(self).reach)
        self.name = self.name or type(self).__name__

    @abstractmethod
    def find(self, p: Drawer) -> Op:
        """Draw the pattern."""

    def where(self, m: Match) -> None:
        """Say with `m.require(condition, reason)` when the match may be rewritten."""
        return

    @abstractmethod
    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the replacement and return the tensor that stands for the pattern's output."""

    def apply(self, draft: Draft, node: gs.Node) -> Result:
        """Find, ask, build, replace."""
        found = match(self.pattern, node, draft)
        if isinstance(found, Refusal):
            return found
        self.where(found)
        return draft.replace(node.outputs[self.pattern.output], self.build(draft, found))


class FunctionRule(Rule):
    """A rule that is one function (draft, node) -> result; made by the decorator `rule`."""

    def __init__(
        self,
        function: Callable[[Draft, gs.Node], Result],
        ops: Iterable[str],
        name: str,
        reach: int,
        opsets: range,
    ) -> None:
        self.function = function
        self.ops = frozenset(ops)
        self.name = name
        self.reach = reach
        self.opsets = opsets

    def apply(self, draft: Draft, node: gs.Node) -> Result:
        """Call the function."""
        return self.function(draft, node)


def rule(
    *ops: str, name: str, reach: int = 1, opsets: range = Rule.opsets
) -> Callable[[Callable[[Draft, gs.Node], Result]], FunctionRule]:
    """Turn a function into a rule that starts at nodes of the given types."""

    def decorate(function: Callable[[Draft, gs.Node], Result]) -> FunctionRule:
        return FunctionRule(function, ops, name, reach, opsets)

    return decorate


def refuse(reason: str) -> None:
    """End a rule at this node with a reason worth reporting."""
    raise RequirementFailed(reason)


@dataclass(frozen=True)
class RuleSet:
    """Rules in the order in which they are tried at a node; sets add up."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, *rules: Rule) -> "RuleSet":
        """Make a set of the given rules."""
        return cls(tuple(rules))

    def __add__(self, other: "RuleSet") -> "RuleSet":
        present = {id(one) for one in self.rules}
        return RuleSet(self.rules + tuple(one for one in other.rules if id(one) not in present))

    def without(self, *names: str) -> "RuleSet":
        """Return the set less the rules of these names."""
        return RuleSet(tuple(one for one in self.rules if one.name not in names))


@dataclass(frozen=True)
class NearMiss:
    """A rewrite that did not happen: the rule, the node it started from, and the reason."""

    rule: str
    node: str
    reason: str


@dataclass
class Trace:
    """What a run did and what it left.

    Attributes:
        done: rule name -> names of the nodes it was applied at, in order.
        misses: refusals with a reason, of nodes that were still there at the end.
        exhausted: the bound on rewrites was hit, so rules were still undoing each other.
        visits: how often a node was looked at, for tests of the cost.
    """

    done: dict[str, list[str]] = field(default_factory=dict)
    misses: list[NearMiss] = field(default_factory=list)
    exhausted: bool = False
    visits: int = 0

    @property
    def count(self) -> int:
        """Return the number of rewrites."""
        return sum(len(names) for names in self.done.values())


class Engine:
    """Runs a rule set over a draft; may be run again after other changes to the draft, which it then follows up."""

    def __init__(self, draft: Draft, rules: RuleSet, trace_all: bool = False) -> None:
        self.draft = draft
        self.trace = Trace()
        self._all = trace_all
        fitting = [one for one in rules.rules if draft.opset in one.opsets]
        self._everywhere = tuple(one for one in fitting if not one.ops)
        self._by_op: dict[str, tuple[Rule, ...]] = {}
        self._rules = tuple(fitting)
        self._reach = max((one.reach for one in fitting), default=1)
        self._queue: deque[gs.Node] = deque()
        self._waiting: set[int] = set()
        self._misses: dict[tuple[str, int], tuple[gs.Node, Refusal]] = {}
        self._left = _BOUND * len(draft.graph.nodes) + 1000
        for node in draft.nodes():
            self._push(node)

    def run(self) -> int:
        """Apply rules until none applies or the bound is hit; return the number of rewrites made."""
        before = self.trace.count
        self._follow()
        while self._queue and self._left > 0:
            node = self._queue.popleft()
            self._waiting.discard(id(node))
            if self.draft.is_alive(node):
                self._visit(node)
        self.trace.exhausted = bool(self._queue)
        self.trace.misses = [
            NearMiss(name, node.name or node.op, refusal.reason)
            for (name, _), (node, refusal) in self._misses.items()
            if self.draft.is_alive(node)
        ]
        return self.trace.count - before

    def _visit(self, node: gs.Node) -> None:
        self.trace.visits += 1
        for one in self._rules_for(node):
            self.draft.anchor = node
            result = self._attempt(one, node)
            if result is True:
                self._left -= 1
                self.trace.done.setdefault(one.name, []).append(node.name or node.op)
                self._misses.pop((one.name, id(node)), None)
                self.draft.settle()
                self._push(node)
                self._follow()
                return
            if isinstance(result, Refusal) and (result.near or self._all):
                self._misses[one.name, id(node)] = (node, result)
            else:
                self._misses.pop((one.name, id(node)), None)

    def _attempt(self, one: Rule, node: gs.Node) -> Result:
        try:
            return one.apply(self.draft, node)
        except RequirementFailed as refused:
            return Refusal(str(refused), node, near=True)

    def _rules_for(self, node: gs.Node) -> tuple[Rule, ...]:
        if not is_default_domain(node):
            return self._everywhere
        found = self._by_op.get(node.op)
        if found is None:
            found = self._by_op[node.op] = tuple(
                one for one in self._rules if not one.ops or node.op in one.ops
            )
        return found

    def _push(self, node: gs.Node) -> None:
        if id(node) not in self._waiting and self.draft.is_alive(node):
            self._waiting.add(id(node))
            self._queue.append(node)

    def _follow(self) -> None:
        """Queue every node whose rules may have become applicable by the changes since the last call."""
        draft = self.draft
        for node in draft.fresh:
            self._push(node)
        starts = list(draft.changed)
        for (
            node
        ) in draft.moved:  # not all readers of what they read now: of one tensor there may be very many
            self._push(node)
            starts.extend(node.outputs)
        for tensor in draft.freed:
            # Rules that ask about all readers ask about few; announcing every step down from many would be quadratic.
            if draft.use_count(tensor) <= FEW:
                maker = draft.producer(tensor)
                if maker is not None:
                    self._push(maker)
                    starts.append(tensor)
        draft.fresh, draft.changed, draft.moved, draft.freed = [], [], [], []
        seen: set[int] = set()
        for _ in range(self._reach):
            following: list[gs.Tensor] = []
            for tensor in starts:
                if id(tensor) in seen or tensor.is_empty():
                    continue
                seen.add(id(tensor))
                for node in draft.users(tensor):
                    self._push(node)
                    following.extend(node.outputs)
            starts = following
