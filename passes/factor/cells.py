"""The pass that factors the state products of recurrent layers, by what their gates do."""

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_nodes
from graphrewrite.passes.factor.factorizations import Factorization
from graphrewrite.passes.factor.factorizations.wavelet import Wavelet
from graphrewrite.passes.factor.factorize import Factorize
from graphrewrite.passes.factor.gates import WriteOutGates
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes

MODES = {
    "GRU": {
        "state": "h",
        "reset": "r",
        "update": "z",
        "gates": "zr",
        "state_reset": "hr",
        "state_update": "hz",
        "full": "zrh",
    },
    "LSTM": {"state": "c", "input": "i", "output": "o", "forget": "f", "gates": "iof", "full": "iofc"},
}


@passes.register("factor_cells")
@dataclass(frozen=True)
class FactorCells:
    """Write GRU and LSTM out and factor what their state is multiplied with, the start of Wolter et al. (2020).

    Args:
        by: how the matrices are factored; as it stands the published start of training from nothing.
        mode: which of them: "state" (what the new state is made of), "gates" (all but that), "full" (all); of a GRU
            "reset", "update", "state_reset" and "state_update"; of an LSTM "input", "output" and "forget".
        ahead: work the matrices out once ahead of the loop, the form to train in; `LowerWavelet` puts them back.
        smallest: a layer whose gates have fewer numbers each stays as it is.

    Layers without such a gate stay whole. Of how far the start is from the model the details tell, per layer.
    """

    by: Factorization = Wavelet(permutation="random", diagonals="ones")
    mode: str = "state"
    ahead: bool = True
    smallest: int = 4096

    claim: ClassVar[Claim] = SameAs(1e-4, "the input model with the products of the factors as weights")

    def __post_init__(self) -> None:
        if not any(self.mode in modes for modes in MODES.values()):
            known = dict.fromkeys(mode for modes in MODES.values() for mode in modes)
            raise InvalidConfig(
                f"FactorCells.mode is {self.mode!r}; expected one of {', '.join(known)}; choose one"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Write out, then factor the products of the chosen gates."""
        notes, gates = [], {}
        for node in all_nodes(model.graph):
            if node.op in MODES and not domain_name(node.domain):
                label = str(node.name or node.outputs[0].name)
                gates[label] = MODES[node.op].get(self.mode, "")
                if not gates[label]:
                    notes.append(Note("skipped", label, f"{node.op}: it has nothing called {self.mode!r}"))
        narrowest = isqrt(max(self.smallest - 1, 0)) + 1  # a gate is a square
        written = WriteOutGates(narrowest, skip=tuple(label for label, chosen in gates.items() if not chosen))
        apart = written.run(model, context)
        notes += apart.notes
        if not apart.changed:
            return Outcome(model, False, tuple(notes), details={"layers": []})
        only = [
            f"{note.subject}.state.{gate}{suffix}"
            for note in apart.notes
            if note.kind == "done"
            for gate in gates[note.subject]
            for suffix in ("", "1")
        ]
        names = {node.name for node in all_nodes(apart.model.graph)}
        step = Factorize(self.by, 0, tuple(name for name in only if name in names), ahead=self.ahead)
        factored = step.run(apart.model, context)
        notes += [note for note in factored.notes if note.kind == "done" or note.subject in only]
        return Outcome(factored.model, True, tuple(notes), factored.reference, factored.details)


__all__ = ["MODES", "FactorCells"]
