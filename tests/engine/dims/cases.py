"""One small graph per operator rule: what its groups and pins must be, and that cutting it is right.

A case draws a graph with named weights. Its groups are written as text, "4: a[0] b[0] w[1]*2" for four units that own
one position each of axis 0 of a and b and two of axis 1 of w. Pins are written as "w[0]": a part of the reason. Every
case is drawn in the operator sets it names, with a symbolic and a fixed batch, and then cut many times: each unit of
every group alone, and random sets that leave two units (a norm over one is rounding and nothing else); each cut must
equal the reference, and the cuts must move the outputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from graphrewrite.dims import Groups, groups, reference
from graphrewrite.errors import GraphRewriteError
from graphrewrite.ir import Model
from tests.support.drawing import Drawing, Drawn, Style
from tests.support.oracles import is_rounding, random_dead, removal, worlds
from tests.support.tolerances import FLOAT32

Draw = Callable[[Drawing], "Drawn | Sequence[Drawn]"]


@dataclass(frozen=True)
class Case:
    """A graph, the operator sets to draw it in, and what is expected of it."""

    name: str
    draw: Draw
    opset: int
    symbolic: bool
    expect: tuple[str, ...]
    pins: Mapping[str, str] = field(default_factory=dict)
    moves: bool = True

    def __str__(self) -> str:
        return f"{self.name}-{self.opset}-{'symbolic' if self.symbolic else 'fixed'}"

    def model(self) -> Model:
        d = Drawing(Style(self.opset, self.symbolic, constant_nodes=0.0, computed_shapes=0.0, seed=5))
        drawn = self.draw(d)
        return d.model(*([drawn] if isinstance(drawn, Drawn) else drawn))


class Cases(list[Case]):
    """The cases of one file."""

    def named(self, name: str) -> Case:
        """Return the first case of this name."""
        return next(case for case in self if case.name == name)

    def add(
        self,
        *expect: str,
        opsets: Sequence[int] = (17,),
        pins: Mapping[str, str] | None = None,
        symbolic: Sequence[bool] = (True, False),
        moves: bool = True,
    ) -> Callable[[Draw], Draw]:
        """File a drawing function with the groups it must have; `moves` says that cuts show in the outputs."""

        def file(draw: Draw) -> Draw:
            for opset in opsets:
                for kind in symbolic:
                    name = draw.__name__.replace("_", "-")
                    self.append(Case(name, draw, opset, kind, expect, pins or {}, moves))
            return draw

        return file


def described(found: Groups) -> list[str]:
    """Return the groups as text, members in alphabetical order."""
    lines = []
    for group in found:
        counts: dict[str, int] = {}
        for member in group.members:
            place = f"{member.tensor}[{member.axis}]"
            counts[place] = counts.get(place, 0) + member.index.shape[1]
        members = " ".join(f"{p}*{n}" if n > 1 else p for p, n in sorted(counts.items()))
        lines.append(f"{group.units}: {members}")
    return sorted(lines)


def demand(case: Case) -> None:
    """Check groups, pins and cuts of a case."""
    model = case.model()
    found = groups(model)
    got = described(found)
    assert got == sorted(case.expect), (
        f"the groups are {got}, expected {sorted(case.expect)}; pins {found.pinned}"
    )
    reasons = {name.split(" ")[0]: reason for name, reason in found.pinned.items()}
    for place, part in case.pins.items():
        assert place in reasons, f"{place} is not pinned; pinned are {reasons}"
        assert part in reasons[place], f"{place} is pinned because {reasons[place]!r}, expected {part!r}"
    assert prove(model, found) or not case.moves, "no cut moved the outputs"


def demand_a_fault(case: Case) -> None:
    """Check that some cut of a case shows as wrong: something about it was broken on purpose."""
    model = case.model()
    with pytest.raises((AssertionError, GraphRewriteError), match="is off by|fails|Reshape|reshape"):
        prove(model, groups(model), cuts=8)


def prove(model: Model, found: Groups, cuts: int = 3) -> bool:
    """Check single units and random sets against the reference; return whether any cut moved the outputs."""
    moved = False
    sets = [random_dead(found, np.random.default_rng(seed), untouched=0.1, least=2) for seed in range(cuts)]
    for group in found:
        if group.units > 1:
            one = found.none_dead()
            one[group.unit_ids[0]] = True
            sets.append(found.balanced(one))
    for dead in sets:
        if not dead.any():
            continue
        result = removal(model, found, dead)
        if result.error > FLOAT32:
            slow = reference(found.analysis, found.dead_labels(dead))[0]
            excused = is_rounding(result.error, worlds(model), result.cut, slow)
            assert excused, f"a cut of {int(dead.sum())} units is off by {result.error:.1e}"
        moved = moved or result.moved > 1e-4
    return moved
