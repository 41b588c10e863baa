"""Rectifiers that layers read get a learned bend and shifts in front, for nets of very few bits to learn with."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.match import Draft
from graphrewrite.match.view import is_default_domain
from graphrewrite.passes.quant.aware import is_layer
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Same, passes

_SHIFTED = frozenset(
    {"BatchNormalization", "Conv", "ConvTranspose", "Gemm"}
)  # what adds a number to each channel


@passes.register("bend_rectifiers")
@dataclass(frozen=True)
class BendRectifiers:
    """Put PRelu between two shifts before a Relu that layers read (Liu et al. 2020; Liu et al. 2022).

    Args:
        slope: of what lies below zero, at the start; the papers' is 0.25.

    It belongs behind `Tidy` and before the training, which learns slope and shifts of each channel. Until then the Relu
    behind cuts off what the bend leaves below zero, so that nothing changes; a shift upwards lets part of it through,
    and its slope learn. The first shift is left out behind a layer or norm, which has one of its own. Rectifiers whose
    number of channels is not known stay as they are.
    """

    slope: float = 0.25

    claim: ClassVar[Claim] = Same()

    def __post_init__(self) -> None:
        if not 0 <= self.slope <= 1:
            raise InvalidConfig(
                f"BendRectifiers.slope is {self.slope!r}; expected a number from 0 to 1; the usual start is 0.25"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Bend every rectifier that a layer reads and that is not bent already."""
        draft = Draft(model)
        notes: list[Note] = []
        for node in [each for each in draft.nodes() if each.op == "Relu" and is_default_domain(each)]:
            if not any(is_layer(draft, user) for user in draft.users(node.outputs[0])) or _is_bent(
                draft, node
            ):
                continue
            shape = draft.shape(node.inputs[0])
            if shape is None or len(shape) < 2 or not isinstance(shape[1], int):
                notes.append(Note("skipped", name_of(node), "its number of channels is not known"))
                continue
            self._bend(draft, node, shape[1], len(shape))
            notes.append(Note("done", name_of(node), f"bent in {shape[1]} channels"))
        draft.close()
        return Outcome(model, any(note.kind == "done" for note in notes), tuple(notes))

    def _bend(self, draft: Draft, node: gs.Node, channels: int, rank: int) -> None:
        x, sizes = node.inputs[0], (channels, *(1,) * (rank - 2))
        draft.anchor = node
        dtype = draft.dtype(x) or np.dtype(np.float32)

        def numbers(value: float, what: str) -> gs.Constant:
            return draft.add_constant(np.full(sizes, value, dtype), f"{node.outputs[0].name}_{what}")

        maker = draft.producer(x)
        if maker is None or maker.op not in _SHIFTED:
            x = draft.op("Add", x, numbers(0, "before"), like=x)
        bent = draft.op("PRelu", x, numbers(self.slope, "slope"), like=x)
        draft.set_input(node, 0, draft.op("Add", bent, numbers(0, "behind"), like=x))


def _is_bent(draft: Draft, node: gs.Node) -> bool:
    """Tell whether a rectifier reads the sum of a bend and a constant."""
    shift = draft.producer(node.inputs[0])
    if shift is None or shift.op != "Add":
        return False
    bend = draft.producer(shift.inputs[0])
    return bend is not None and bend.op == "PRelu" and draft.is_constant(shift.inputs[1])
