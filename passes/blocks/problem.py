"""Blocks as a budget sees them: least harm per saving first, with a share of every stream kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import BudgetError
from graphrewrite.passes.blocks.block import Blocks
from graphrewrite.passes.blocks.ledger import Ledger
from graphrewrite.passes.channels.budgets import Cost, Mask, rounded_up

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BlockProblem:
    """What may go, and what it is worth.

    `scores` is [blocks], larger = keep. `floor` is the least share of its blocks that a stream keeps, rounded up, and
    `untouched` are blocks to leave alone. `clock(dead)` measures the latency relative to the original. In a mask,
    blocks inside removed ones are removed too.
    """

    blocks: Blocks
    scores: Scores
    floor: float
    untouched: frozenset[int]
    clock: Callable[[Mask], float]

    def nothing(self) -> Mask:
        """Return the mask with nothing removed."""
        return np.zeros(len(self.blocks), dtype=bool)

    def least_possible(self) -> Mask:
        """Return the mask with everything removed that may go, the largest blocks first."""
        return self._smallest("MACs").dead

    def families(self) -> list[str]:
        """Return the names of the streams."""
        return list(dict.fromkeys(block.stream for block in self.blocks))

    def share(self, kept: float, named: Mapping[str, float] | None = None) -> Mask:
        """Return the mask in which every stream keeps a share of its blocks, rounded up; lowest scores go.

        It is `kept`, but for the streams in `named`.
        """
        choice = _Choice(self, [max((named or {}).get(name, kept), self.floor) for name in self.families()])
        for number in np.argsort(self.scores, kind="stable"):
            choice.try_out(int(number))
        return choice.dead

    def left(self, cost: Cost, dead: Mask) -> float:
        """Return the share of the original cost that stays."""
        ledger = Ledger(self.blocks)
        for number in self.outermost(dead):
            ledger.leave_out(number)
        return ledger.left(cost) / max(ledger.whole(cost), 1.0)

    def measure(self, dead: Mask) -> float:
        """Return the latency without these blocks relative to the original, measured now."""
        return self.clock(dead)

    def below(self, cost: Cost, fraction: float) -> Mask:
        """Leave blocks out, those with the least score per saving first, until a cost is below its goal.

        What turns out needless at the end is put back, dearest first.

        Raises:
            BudgetError: even without all that may go the model is above it; the message says what can be reached.
        """
        whole = Ledger(self.blocks).whole(cost)
        if whole <= 0:
            raise BudgetError(
                f"the model has no {cost} that can be counted, so a budget on them means nothing; use a ratio"
            )
        goal = fraction * whole * (1 + 1e-9)
        choice = _Choice(self, [self.floor] * len(self.families()))
        choice.shrink(cost, self.scores, goal)
        if choice.ledger.left(cost) > goal:
            choice = self._smallest(cost)
        if choice.ledger.left(cost) > goal:
            reached = choice.ledger.left(cost) / whole
            if not len(self.blocks):
                raise BudgetError(
                    f"the budget asks for {fraction:.3g} of the {cost}, but the model has no block to leave out; "
                    "expected branches that are added to what they are computed from, or joined by concatenation; "
                    "remove channels instead"
                )
            raise BudgetError(
                f"the budget asks for {fraction:.3g} of the {cost}, but the {len(self.blocks)} blocks hold at most "
                f"{100 * (1 - reached):.1f} % that may go ({reached:.3g} stays); ask for {rounded_up(reached)} or "
                "more, lower the floor, or remove channels as well"
            )
        choice.give_back(cost, self.scores, goal)
        return choice.dead

    def outermost(self, dead: Mask) -> list[int]:
        """Return the removed blocks that lie in no other removed one."""
        inside = [block.inside for block in self.blocks]
        return [int(n) for n in np.flatnonzero(dead) if inside[n] is None or not dead[inside[n]]]

    def _smallest(self, cost: Cost) -> "_Choice":
        choice = _Choice(self, [self.floor] * len(self.families()))
        choice.shrink(cost, np.ones(len(self.blocks)), -1.0)
        return choice

    @cached_property
    def frozen(self) -> frozenset[int]:
        """The blocks that may not go: those left alone, and those around them."""
        found = set(self.untouched)
        for number in self.untouched:
            around = self.blocks.blocks[number].inside
            while around is not None:
                found.add(around)
                around = self.blocks.blocks[around].inside
        return frozenset(found)

    @cached_property
    def within(self) -> list[list[int]]:
        """For each block, itself and what lies inside it."""
        found: list[list[int]] = [[n] for n in range(len(self.blocks))]
        for number, block in enumerate(self.blocks):
            around = block.inside
            while around is not None:
                found[around].append(number)
                around = self.blocks.blocks[around].inside
        return found


class _Choice:
    """A set of removed blocks that grows, and may shrink again, within what streams must keep."""

    def __init__(self, problem: BlockProblem, kept: Sequence[float]) -> None:
        self.problem = problem
        self.ledger = Ledger(problem.blocks)
        self.dead = problem.nothing()
        streams = [block.stream for block in problem.blocks]
        numbers = {stream: number for number, stream in enumerate(problem.families())}
        self._stream = np.array([numbers[stream] for stream in streams], dtype=np.int64)
        counts = self._counts = np.bincount(self._stream, minlength=1)
        # The slack keeps rounding noise from deciding: 0.3 of 10 blocks are 3, not 4.
        self._spare = np.array(
            [n - ceil(share * n - 1e-9) for n, share in zip(counts, kept, strict=False)], dtype=np.int64
        )

    def try_out(self, block: int) -> bool:
        """Leave a block out with all inside it, unless a stream would keep too few; tell whether it was done."""
        if self.dead[block] or block in self.problem.frozen:
            return False
        within = self.problem.within[block]
        fresh = [n for n in within if not self.dead[n]]
        spent = np.bincount(self._stream[fresh], minlength=len(self._spare))
        # A stream that lies in the block altogether (a module inside it) is no stream any more.
        inner = np.bincount(self._stream[[n for n in within if n != block]], minlength=len(self._spare))
        if ((spent > self._spare) & (inner < self._counts)).any():
            return False
        self.ledger.leave_out(block)
        if not self.ledger.is_whole():
            self.ledger.put_back(block)
            return False
        self._spare -= spent
        self.dead[fresh] = True
        return True

    def shrink(self, cost: Cost, scores: Scores, goal: float) -> None:
        """Leave out blocks with the least score per saving until a cost is at most `goal`, or nothing may go."""
        blocks = self.problem.blocks.blocks
        saving = np.array([b.macs if cost == "MACs" else b.params for b in blocks], dtype=np.float64)
        open_ = np.array([n not in self.problem.frozen for n in range(len(blocks))], dtype=bool)
        while self.ledger.left(cost) > goal and open_.any():
            key = np.where(open_, scores / np.maximum(saving, 1e-12), np.inf)
            block = int(np.argmin(key))
            open_[block] = False
            before = self.ledger.left(cost)
            if not self.try_out(block):
                continue
            open_[self.problem.within[block]] = False
            saved, around = before - self.ledger.left(cost), blocks[block].inside
            while around is not None:
                saving[around] -= saved
                around = blocks[around].inside

    def give_back(self, cost: Cost, scores: Scores, goal: float) -> None:
        """Put blocks back without which a cost stays at most `goal`, those with the highest score first."""
        for block in sorted(self.problem.outermost(self.dead), key=lambda n: (-scores[n], n)):
            self.ledger.put_back(block)
            if self.ledger.left(cost) > goal or not self.ledger.is_whole():
                self.ledger.leave_out(block)
                continue
            inner = [n for n in self.problem.within[block] if n != block]
            revived = [block, *(n for n in inner if not self._still_out(n, block))]
            self.dead[revived] = False
            self._spare += np.bincount(self._stream[revived], minlength=len(self._spare))

    def _still_out(self, block: int, around: int) -> bool:
        """Whether a block was left out before the one around it was, itself or with another one between."""
        number: int | None = block
        while number is not None and number != around:
            if self.ledger.out[number]:
                return True
            number = self.problem.blocks.blocks[number].inside
        return False
