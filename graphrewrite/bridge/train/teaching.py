"""The teacher of a run: another model on the same batches, without gradients, its outputs under the student's names."""

from collections.abc import Mapping, Sequence

import torch

from graphrewrite.bridge.losses import Loss
from graphrewrite.bridge.module import GraphModule
from graphrewrite.bridge.taps import tapped
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.ir import Model


class Teacher:
    """Gives the tensors that losses ask of it, by the names they ask for.

    Inputs and outputs are paired by name with the student's, or, where there is one of each, as they are.

    Raises:
        InvalidData: the teacher takes other inputs or gives other outputs than the student.
    """

    def __init__(self, model: Model, student: Model, wanted: Sequence[str], device: torch.device) -> None:
        self._inputs = _paired("inputs", [x.name for x in model.inputs], [x.name for x in student.inputs])
        self._outputs = _paired("outputs", [x.name for x in student.outputs], [x.name for x in model.outputs])
        extra = [name for name in dict.fromkeys(wanted) if name not in self._outputs]
        module = GraphModule(model)
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        self._net = tapped(module.to(device), extra).eval()

    def __call__(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return outputs, by the student's names, and other tensors, by the teacher's own."""
        with torch.no_grad():
            found = self._net({own: feeds[name] for own, name in self._inputs.items()})
        return found | {name: found[own] for name, own in self._outputs.items()}


def teacher_for(
    model: Model | None, student: Model, losses: Sequence[Loss], device: torch.device
) -> Teacher | None:
    """Return the teacher that a stage's losses ask for, None when they ask for none.

    Raises:
        InvalidConfig: there is none to be had.
        InvalidData: it does not fit the student.
    """
    asking = [loss for loss in losses if loss.needs.teacher is not None]
    if not asking:
        return None
    if model is None:
        raise InvalidConfig(
            f"{type(asking[0]).__name__} needs a teacher, and there is none; expected a model to learn from; give "
            "finetune(..., teacher=...)"
        )
    return Teacher(model, student, [name for loss in asking for name in loss.needs.teacher or ()], device)


def _paired(kind: str, wanted: Sequence[str], offered: Sequence[str]) -> dict[str, str]:
    """Return for each wanted name the one it is offered under."""
    if len(wanted) == len(offered) == 1:
        return {wanted[0]: offered[0]}
    missing = [name for name in wanted if name not in offered]
    if missing:
        raise InvalidData(
            f"the teacher has other {kind} than the student: {missing[0]!r} has no counterpart among "
            f"{', '.join(offered)}; expected the same names; rename them, or give another teacher"
        )
    return {name: name for name in wanted}
