"""Where two models part: the earliest tensor, known to both by name, whose values differ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Array, Model, constant_value, infer
from graphrewrite.pipeline.verify import relative_error
from graphrewrite.runtime import Feeds, run

# Tensors are fetched in bunches of about this many bytes, so that a large model's activations need not fit at once.
_BUNCH_BYTES = 256_000_000
_UNKNOWN_BYTES = 1_000_000


@dataclass(frozen=True)
class Difference:
    """The first tensor that differs.

    Attributes:
        tensor: its name.
        producer: "Conv conv_3", the operator and name of the node that makes it in the reference.
        error: relative error, infinite when shapes, types or the places of NaN differ.
        matched: how many common tensors before it agree.
        detail: shapes or extreme values, for a person.
    """

    tensor: str
    producer: str
    error: float
    matched: int
    detail: str

    def __str__(self) -> str:
        return f"{self.tensor!r} (made by {self.producer}; {self.detail}; {self.matched} tensors before it agree)"


def first_difference(
    reference: Model,
    model: Model,
    feeds: Feeds,
    rtol: float,
    any_shape: bool = True,
    threads: int = 0,
    model_feeds: Feeds | None = None,
) -> Difference | None:
    """Run both models and return the first common tensor, in the reference's order, that differs by more than `rtol`.

    Inputs, constants and tensors inside bodies are not looked at. With `any_shape` another shape is a difference;
    without, tensors of another shape are passed over, as fits a pass that cuts channels. `model_feeds` are for a model
    that takes other inputs than its reference.

    Raises:
        InvalidModel: one of the models does not run at all.
    """
    makers = _computed(reference)
    others = _computed(model)
    common = [name for name in makers if name in others]
    matched = 0
    for bunch in _bunches(common, reference):
        left = _taps(reference, bunch, feeds, threads)
        right = _taps(model, bunch, feeds if model_feeds is None else model_feeds, threads)
        for name in bunch:
            keys = [
                key for key in dict.fromkeys((*left, *right)) if key == name or key.startswith(f"{name}[")
            ]
            for key in keys:
                if key not in left or key not in right:
                    return Difference(name, makers[name], float("inf"), matched, "another number of elements")
                if left[key].shape != right[key].shape and not any_shape:
                    continue
                error = relative_error(left[key], right[key])
                if error > rtol:
                    return Difference(
                        name, makers[name], error, matched, _detail(left[key], right[key], error)
                    )
            matched += 1
    return None


def _computed(model: Model) -> dict[str, str]:
    """Return tensor name -> producer for what the main graph computes, in order."""
    found = {}
    for node in model.graph.nodes:
        for tensor in node.outputs:
            if tensor.name and constant_value(tensor) is None:
                found[tensor.name] = f"{node.op} {node.name}".strip()
    return found


def _bunches(names: Sequence[str], model: Model) -> Iterator[list[str]]:
    info = infer(model)
    bunch: list[str] = []
    total = 0
    for name in names:
        sizes, dtype = info.sizes(name), info.dtype(name)
        known = sizes is not None and dtype is not None and not dtype.hasobject
        total += (
            int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
            if known and sizes and dtype
            else _UNKNOWN_BYTES
        )
        bunch.append(name)
        if total >= _BUNCH_BYTES:
            yield bunch
            bunch, total = [], 0
    if bunch:
        yield bunch


def _taps(model: Model, names: Sequence[str], feeds: Feeds, threads: int) -> dict[str, Array]:
    """Run with taps; where onnxruntime cannot return one of them (an odd type), the others are returned."""
    found: dict[str, Array] = {}
    queue = [list(names)]
    while queue:
        part = queue.pop()
        try:
            found |= run(model, feeds, outputs=part, threads=threads)
        except InvalidModel:
            if len(part) == len(names):
                run(model, feeds, threads=threads)  # a model that does not run at all is the caller's to know
            if len(part) > 1:
                queue += [part[: len(part) // 2], part[len(part) // 2 :]]
    return found


def _detail(left: Array, right: Array, error: float) -> str:
    if left.shape != right.shape:
        return f"shape {list(left.shape)} against {list(right.shape)}"
    if left.dtype != right.dtype:
        return f"{left.dtype} against {right.dtype}"
    if np.isfinite(error):
        return f"relative error {error:.3g}"
    if left.dtype.kind in "fc":
        bad = [int(np.count_nonzero(~np.isfinite(array))) for array in (left, right)]
        return f"{bad[0]} values not finite against {bad[1]}"
    return f"{int(np.count_nonzero(left != right))} of {left.size} values differ"
