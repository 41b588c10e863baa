"""Make a failing graph small: take nodes away while it still fails.

`minimise(model, fails)` tries, over and over, to end the graph earlier, to begin it later, and to bypass nodes whose
input has the shape of their output. `report` saves what is left and returns the command that shows its fault again.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model, ShapeInfo, infer
from graphrewrite.ir.check import check
from graphrewrite.ir.edit import drop_unused, redirect
from tests.support.verdict import model_faults

Fails = Callable[[Model], bool]


def minimise(model: Model, fails: Fails, tries: int = 400) -> Model:
    """Return a smaller model that still fails; `fails` must hold of the one given."""
    best, left = model, tries
    while True:
        for smaller in _proposals(best):
            left -= 1
            if left < 0:
                return best
            if _still(smaller, fails):
                best = smaller
                break
        else:
            return best


def report(model: Model, seed: int, kind: str, what: str, folder: Path | None = None) -> str:
    """Shrink and save a model with a fault of a kind; return a message with the command that shows the fault again."""

    def fails(candidate: Model) -> bool:
        return any(fault.kind == kind for fault in model_faults(candidate, seed))

    small = minimise(model, fails) if fails(model) else model
    place = (
        folder
        or Path(os.environ.get("GRAPHREWRITE_FAILURES", tempfile.gettempdir())) / "graphrewrite-failures"
    )
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{seed}-{''.join(c if c.isalnum() else '-' for c in kind)}.onnx"
    small.save(path)
    ops = " ".join(node.op for node in small.graph.nodes)
    return (
        f"{what}\nsaved, {len(small.graph.nodes)} of {len(model.graph.nodes)} nodes left ({ops}); to see it again:\n"
        f"python -m tests.support.again {path} {seed}"
    )


def _still(model: Model, fails: Fails) -> bool:
    try:
        check(model)
        return fails(model)
    except Exception:  # a proposal that is no sound model is no smaller failure
        return False


def _proposals(model: Model) -> "list[Model]":
    """Return smaller models, the smallest first: halves, then ends, beginnings and bypasses node by node."""
    info = infer(model)
    count = len(model.graph.nodes)
    made = []
    for index in _halving(count):
        made += [_ended(model, index, info), _begun(model, index, info)]
    if len(model.graph.outputs) > 1:
        made += [_one_output(model, index) for index in range(len(model.graph.outputs))]
    for index in range(count):
        made += [
            _begun(model, index, info),
            _bypassed(model, index, info),
            _ended(model, count - 1 - index, info),
        ]
    return [smaller for smaller in made if smaller is not None and len(smaller.graph.nodes) < count]


def _halving(count: int) -> list[int]:
    places, step = [], count // 2
    while step > 1:
        places += [step, count - step]
        step //= 2
    return [place for place in places if 0 <= place < count]


def _one_output(model: Model, index: int) -> Model:
    copy = model.clone()
    copy.graph.outputs = [copy.graph.outputs[index]]
    return _tidied(copy)


def _ended(model: Model, index: int, info: ShapeInfo) -> Model | None:
    """Make the first output of a node the only output of the graph."""
    copy = model.clone()
    tensor = copy.graph.nodes[index].outputs[0]
    if not _declare(tensor, info) or any(tensor is out for out in copy.graph.outputs):
        return None
    copy.graph.outputs = [tensor]
    return _tidied(copy)


def _begun(model: Model, index: int, info: ShapeInfo) -> Model | None:
    """Feed the first output of a node from outside."""
    copy = model.clone()
    node = copy.graph.nodes[index]
    tensor = node.outputs[0]
    if (
        node.op == "Constant"
        or info.value(tensor.name) is not None
        or any(tensor is out for out in copy.graph.outputs)
    ):
        return None
    fed = gs.Variable(f"fed_{tensor.name}")
    if not _declare(fed, info, tensor.name):
        return None
    redirect(copy.graph, tensor, fed)
    copy.graph.inputs.append(fed)
    return _tidied(copy)


def _bypassed(model: Model, index: int, info: ShapeInfo) -> Model | None:
    """Let who reads a node read an input of the same shape and type instead."""
    copy = model.clone()
    node = copy.graph.nodes[index]
    out = node.outputs[0]
    if any(out is tensor for tensor in copy.graph.outputs):
        return None
    for tensor in node.inputs:
        same = info.shape(tensor.name) is not None and info.shape(tensor.name) == info.shape(out.name)
        if same and info.dtype(tensor.name) == info.dtype(out.name):
            redirect(copy.graph, out, tensor)
            return _tidied(copy)
    return None


def _declare(tensor: gs.Tensor, info: ShapeInfo, name: str | None = None) -> bool:
    """Write a shape and a type on a tensor that becomes an input or output of the graph."""
    shape, dtype = info.shape(name or tensor.name), info.dtype(name or tensor.name)
    if shape is None or dtype is None or not isinstance(tensor, gs.Variable):
        return False
    tensor.shape = [size if isinstance(size, int) else str(size) for size in shape]
    tensor.dtype = np.dtype(dtype)
    return True


def _tidied(model: Model) -> Model:
    drop_unused(model.graph)
    read = {id(tensor) for node in model.graph.nodes for tensor in node.inputs}
    model.graph.inputs = [tensor for tensor in model.graph.inputs if id(tensor) in read]
    return model
