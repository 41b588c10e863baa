"""How far apart two runs are, and what a check of a step has to say."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphrewrite.errors import VerificationError
from graphrewrite.ir import Array, Model
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.values import onnx_dtype_to_numpy

# A result in a coarse float type differs by a few units of its last place when sums are taken in another order.
_ULPS = 16
_COARSE = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


@dataclass(frozen=True)
class Verified:
    """How a step was checked and what came out.

    Attributes:
        how: "unchanged" (nothing to check), "same" or "reference" (outputs compared with the input model's or with the
            pass's slow reference), "bounded" (a metric held), "runs" (valid and finite), "structure" (not run),
            "steps" (a nested pipeline checked its own), "off".
        error: largest relative error over all outputs and worlds, None when nothing was compared.
        rtol: what the error was held against.
        outputs: largest relative error by output name.
        movement: for "reference" and "runs": how far the outputs moved from the input model's, relative; a proof with
            movement 0 says little.
        worlds: the input sizes of each run, as text.
        metric: the measured value of a "bounded" claim.
        rounding: what was found where the plain comparison failed and the difference is the model's own rounding;
            `error` is then the one in float64, if that could be computed.
        against: for "reference": what the outputs were compared with, in words.
    """

    how: str
    error: float | None = None
    rtol: float | None = None
    outputs: Mapping[str, float] = field(default_factory=dict)
    movement: float | None = None
    worlds: tuple[str, ...] = ()
    metric: float | None = None
    rounding: str = ""
    against: str = ""


class StepError(VerificationError):
    """A step of a pipeline broke its promise.

    Attributes:
        step: name of the pass.
        stage: "structure", "run", "claim" or "changed": which check failed.
        tensor: the first tensor that differs, when one was found.
        folder: where both models and the inputs were saved, when they were.
    """

    def __init__(self, message: str, step: str, stage: str, tensor: str | None, folder: str | None) -> None:
        super().__init__(message)
        self.step = step
        self.stage = stage
        self.tensor = tensor
        self.folder = folder


def relative_error(reference: Array, other: Array) -> float:
    """Return max |reference - other| / max |reference| over the finite values of a float tensor.

    Infinite when shapes or types differ, when NaN or infinity stand at other places, or when anything but a float
    tensor is not equal. A reference of zeros is compared by the absolute difference.
    """
    a, b = np.asarray(reference), np.asarray(other)
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    if not _is_inexact(a.dtype):
        return 0.0 if np.array_equal(a, b) else math.inf
    if a.size == 0:
        return 0.0
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    x, y = a.astype(wide), b.astype(wide)
    finite = np.isfinite(x)
    if not finite.all():
        # Equal where not finite: NaN with NaN, an infinity with the same infinity.
        if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
            return math.inf
        x, y = x[finite], y[finite]
        if x.size == 0:
            return 0.0
    if not np.isfinite(y).all():
        return math.inf
    scale = float(np.max(np.abs(x)))
    return float(np.max(np.abs(x - y))) / (scale or 1.0)


def compare(reference: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, float]:
    """Return the relative error of each output by name; one that only one side has counts as infinitely wrong."""
    names = dict.fromkeys((*reference, *other))
    return {
        name: relative_error(reference[name], other[name])
        if name in reference and name in other
        else math.inf
        for name in names
    }


def not_finite(outputs: Mapping[str, Array]) -> set[str]:
    """Return the names of float outputs that hold a NaN or an infinity."""
    found = set()
    for name, array in outputs.items():
        if _is_inexact(array.dtype):
            wide = array if array.dtype.kind in "fc" else array.astype(np.float32)
            if not np.isfinite(wide).all():
                found.add(name)
    return found


def tolerance(rtol: float, *models: Model) -> float:
    """Return the relative error to allow: `rtol`, or 16 units in the last place of the coarsest float computed in.

    The rounding of float16 is 8000 times that of float32; a claim made for float32 cannot hold there to the letter.
    """
    coarsest = max((_COARSE.get(name, 0.0) for model in models for name in _float_types(model)), default=0.0)
    return max(rtol, _ULPS * coarsest)


def _float_types(model: Model) -> Iterator[str]:
    for graph in all_graphs(model.graph):
        for tensor in (*graph.initializers.values(), *graph.inputs, *graph.outputs):
            if tensor.dtype is not None:
                yield np.dtype(tensor.dtype).name
        for node in graph.nodes:
            if node.op == "Cast" and isinstance(target := node.attrs.get("to"), int):
                yield onnx_dtype_to_numpy(target).name
            value = node.attrs.get("value") if node.op == "Constant" else None
            if isinstance(value, gs.Constant):
                yield np.dtype(value.dtype).name


def _is_inexact(dtype: np.dtype[np.generic]) -> bool:
    """True for float and complex types, those of ml_dtypes included (numpy files them as "void")."""
    return dtype.kind in "fc" or dtype.name.startswith(("bfloat", "float"))


RANDOM_OPS = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


def is_random(model: Model) -> bool:
    """Tell whether running the model twice may give two results."""
    ops = {node.op for graph in all_graphs(model.graph) for node in graph.nodes}
    ops |= {node.op_type for function in model.functions for node in _nodes_of(function)}
    # Dropout draws numbers only in training mode, which is its third input.
    trains = any(
        node.op == "Dropout" and len(node.inputs) > 2
        for graph in all_graphs(model.graph)
        for node in graph.nodes
    )
    return trains or bool(ops & RANDOM_OPS)


def _nodes_of(function: onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    yield from function.node
