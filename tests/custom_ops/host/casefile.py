"""The cases of the operators in one file that the host reads: inputs, attributes, and what the numpy reference expects.

Layout, all little-endian: the mark GRCASES1, a count (u32), then for each case op, label and node name as texts (u32
length, bytes), rtol and atol (f64), attributes (u32 count; name, kind u8, value) and two lists of tensors (u32 count;
ONNX element type i32, constant u8, dims as u32 count and i64, bytes as u64 length and content).
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from graphrewrite.custom_ops.spec import OpSpec, Value

Array = npt.NDArray[np.generic]
NODE = "the node under test, " + "with a name as long as exporters make them, " * 10


@dataclass(frozen=True)
class Tensor:
    """An input or expected output; `constant` inputs are given to kernels as initializers."""

    array: Array
    constant: bool = False


@dataclass(frozen=True)
class HostCase:
    """A case as the host sees it: names, numbers and bytes; an attribute comes with its declared type."""

    op: str
    label: str
    attributes: Mapping[str, tuple[str, Value]]
    inputs: Sequence[Tensor]
    expected: Sequence[Tensor]
    rtol: float = 0.0


def cases_of(spec: OpSpec) -> list[HostCase]:
    """Return an operator's own cases with what its reference expects."""
    found = []
    for case in spec.cases():
        filled = spec.filled(case.attributes)
        attributes = {declared.name: (declared.type, filled[declared.name]) for declared in spec.attributes}
        inputs = [Tensor(np.asarray(case.inputs[port.name]), port.constant) for port in spec.inputs]
        result = spec.reference(*(tensor.array for tensor in inputs), **filled)
        results = result if isinstance(result, tuple) else (result,)
        expected = [Tensor(np.asarray(array)) for array in results]
        found.append(HostCase(spec.name, case.name, attributes, inputs, expected, case.rtol))
    return found


def write(path: Path, cases: Iterable[HostCase]) -> None:
    """Write the case file."""
    every = list(cases)
    parts = [b"GRCASES1", struct.pack("<I", len(every))]
    for case in every:
        parts += [_text(case.op), _text(case.label), _text(NODE), struct.pack("<dd", case.rtol, 0.0)]
        parts.append(struct.pack("<I", len(case.attributes)))
        for name, (kind, value) in case.attributes.items():
            parts += [_text(name), _attribute(kind, value)]
        parts += [_tensors(case.inputs), _tensors(case.expected)]
    path.write_bytes(b"".join(parts))


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<I", len(raw)) + raw


def _attribute(kind: str, value: Value) -> bytes:
    # Kinds are the host's own numbers. A list that is empty does not say what it is a list of, hence `kind`.
    if isinstance(value, str):
        return struct.pack("<B", 3) + _text(value)
    if isinstance(value, (int, float)):
        return struct.pack("<Bq", 1, value) if kind == "int" else struct.pack("<Bf", 2, value)
    packed = struct.pack(f"<I{len(value)}{'q' if kind == 'ints' else 'f'}", len(value), *value)
    return struct.pack("<B", 4 if kind == "ints" else 5) + packed


def _tensors(tensors: Sequence[Tensor]) -> bytes:
    parts = [struct.pack("<I", len(tensors))]
    for tensor in tensors:
        array = np.ascontiguousarray(tensor.array)
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        parts.append(
            struct.pack(
                f"<iBI{tensor.array.ndim}q", kind, tensor.constant, tensor.array.ndim, *tensor.array.shape
            )
        )
        raw = array.tobytes()
        parts += [struct.pack("<Q", len(raw)), raw]
    return b"".join(parts)
