"""The cheapest check: is it a sound model, and does it still look the same from outside?"""

from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Model, infer
from graphrewrite.ir.check import check
from graphrewrite.ir.outline import checkable, outline
from graphrewrite.runtime import Ports


@dataclass(frozen=True)
class Port:
    """An input or output as the world outside sees it."""

    name: str
    kind: str
    dtype: str | None
    shape: tuple[int | str | None, ...] | None

    @classmethod
    def of(cls, tensor: gs.Tensor) -> "Port":
        """Read a graph input or output."""
        dtype = None if tensor.dtype is None else np.dtype(tensor.dtype).name
        shape = None if tensor.shape is None else tuple(tensor.shape)
        kind = "tensor_type" if isinstance(tensor, gs.Constant) else str(tensor.type)
        return cls(tensor.name, kind, dtype, shape)

    def narrowed(self, ports: Ports) -> "Port":
        """Return the port with the lengths of what is kept of it."""
        kept = ports.get(self.name)
        if not kept or self.shape is None:
            return self
        shape = tuple(
            len(kept[axis]) if axis in kept and isinstance(dim, int) else dim
            for axis, dim in enumerate(self.shape)
        )
        return replace(self, shape=shape)

    def __str__(self) -> str:
        sizes = (
            ""
            if self.shape is None
            else "[" + ", ".join("?" if d is None else str(d) for d in self.shape) + "]"
        )
        return f"{self.name} {self.dtype or self.kind.removesuffix('_type')}{sizes}"


@dataclass(frozen=True)
class Front:
    """What a caller of the model relies on, and which checks it passed to begin with."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    fault: str = ""  # why ir.check refuses the model, "" when it does not
    type_fault: str = field(default="", compare=False)  # why onnx's strict type inference refuses it

    @classmethod
    def of(cls, model: Model) -> "Front":
        """Read a model's front and check the model."""
        inputs = tuple(Port.of(tensor) for tensor in model.inputs)
        outputs = tuple(Port.of(tensor) for tensor in model.outputs)
        fault = fault_of(model)
        return cls(inputs, outputs, fault, type_fault_of(model) if not fault else "")

    def narrowed(self, ports: Ports) -> "Front":
        """Return the front of a model whose inputs and outputs were cut to the kept positions."""
        if not ports:
            return self
        inputs, outputs = (
            tuple(port.narrowed(ports) for port in side) for side in (self.inputs, self.outputs)
        )
        return replace(self, inputs=inputs, outputs=outputs)


def problem_of(model: Model, front: Front) -> str | None:
    """Return what is wrong with a rewritten model of which `front` was the beginning, or None.

    A check that the input model failed already is not held against the step.
    """
    for kind, before, tensors in (
        ("input", front.inputs, model.inputs),
        ("output", front.outputs, model.outputs),
    ):
        problem = _ports_problem(kind, before, tuple(Port.of(tensor) for tensor in tensors))
        if problem:
            return problem
    if not front.fault and (fault := fault_of(model)):
        return fault
    if not front.fault and not front.type_fault and (fault := type_fault_of(model)):
        return fault
    return None


def fault_of(model: Model) -> str:
    """Return why the model is not sound ("" when it is)."""
    try:
        check(model)
    except InvalidModel as error:
        return str(error)
    return ""


def type_fault_of(model: Model) -> str:
    """Return why onnx's strict type and shape inference refuses the model ("" when it does not)."""
    proto = outline(model)
    unranked = [
        info.name
        for info in proto.graph.output
        if info.type.HasField("tensor_type") and not info.type.tensor_type.HasField("shape")
    ]
    ranks: dict[str, int] = {}
    if unranked:
        shapes = infer(model)
        ranks = {name: len(shape) for name in unranked if (shape := shapes.shape(name)) is not None}
    try:
        onnx.checker.check_model(checkable(proto, ranks).SerializeToString(), full_check=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
        RuntimeError,
    ) as error:
        return " ".join(str(error).split()).rstrip(".")
    return ""


def _ports_problem(kind: str, before: tuple[Port, ...], after: tuple[Port, ...]) -> str | None:
    names = [port.name for port in before], [port.name for port in after]
    if names[0] != names[1]:
        return f"the {kind}s were {', '.join(names[0])} and are now {', '.join(names[1]) or 'none'}"
    for old, new in zip(before, after, strict=True):
        if old.kind != new.kind or (old.dtype is not None and old.dtype != new.dtype):
            return f"the {kind} {old} has become {new}"
        if old.shape is not None and new.shape is not None and not _keeps(old.shape, new.shape):
            return f"the {kind} {old} has become {new}: a fixed size must stay, a symbolic one must stay symbolic"
    return None


def _keeps(old: tuple[int | str | None, ...], new: tuple[int | str | None, ...]) -> bool:
    if len(old) != len(new):
        return False
    return all(
        b == a if isinstance(a, int) else not isinstance(b, int) for a, b in zip(old, new, strict=True)
    )
