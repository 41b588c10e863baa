"""What the compiled library offers on this machine: its operators and instruction sets, found out by asking it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx.parser

from graphrewrite.custom_ops.library import library_path, register
from graphrewrite.custom_ops.spec import DOMAIN, VERSION, OpSpec, ops
from graphrewrite.errors import KernelUnavailable

# Where set, the instruction set of every kernel that is created, instead of the best one of the machine.
ISA = "GRAPHREWRITE_ISA"
_ISAS = ("scalar", "avx2", "avx512", "amx", "neon")  # worst first within an architecture

# How a refusal begins that is about the instruction set (glue/cpu.cc), and what onnxruntime says of a stranger.
_NO_ISA, _NO_OP = f"{ISA} is", "is not a registered function/op"


@dataclass(frozen=True)
class Presence:
    """The library as sessions of this process get to know it.

    Attributes:
        library: its file; None where there is none, or onnxruntime does not take it.
        runtime: the release of onnxruntime.
        ops: names of the operators it has kernels for; the others run through their function bodies.
        isas: instruction sets its kernels can use here, worst first.
        isa: the one they do use; None where none would work.
        why_not: why there is no library or no instruction set; empty where there is.
    """

    library: Path | None
    runtime: str
    ops: frozenset[str] = frozenset()
    isas: tuple[str, ...] = ()
    isa: str | None = None
    why_not: str = ""


def presence() -> Presence:
    """Ask the library, by starting one session of a single node after the other; nothing is run."""
    import onnxruntime as ort

    try:
        path = library_path()
        register(ort.SessionOptions())
    except KernelUnavailable as error:
        return Presence(None, ort.__version__, why_not=str(error))
    asked = os.environ.get(ISA)
    there = list(_with_kernel())
    if not there:
        return Presence(
            path, ort.__version__, why_not=f"the library {str(path)!r} has no operator of this release"
        )
    found = [isa for isa in _ISAS if _takes(there[0], isa)]
    names = frozenset(spec.name for spec in there)
    if asked and asked not in found:
        why_not = (
            f"{ISA} is {asked!r}; expected one that this machine has: {', '.join(found)}; change or unset it"
        )
        return Presence(path, ort.__version__, names, tuple(found), None, why_not)
    return Presence(path, ort.__version__, names, tuple(found), asked or found[-1])


def chosen_isa() -> str | None:
    """Return the instruction set that kernels use here, None where none would work; asks for nothing else."""
    import onnxruntime as ort

    try:
        register(ort.SessionOptions())
    except KernelUnavailable:
        return None
    spec = next(_with_kernel(), None)
    if spec is None:
        return None
    asked = os.environ.get(ISA)
    return next((isa for isa in ([asked] if asked else reversed(_ISAS)) if _takes(spec, isa)), None)


@contextmanager
def forced(isa: str | None) -> Iterator[None]:
    """Make kernels created inside use this instruction set; None lets them take the best."""
    before = os.environ.pop(ISA, None)
    try:
        if isa is not None:
            os.environ[ISA] = isa
        yield
    finally:
        os.environ.pop(ISA, None)
        if before is not None:
            os.environ[ISA] = before


def _with_kernel() -> Iterator[OpSpec]:
    for spec in ops().values():
        with forced("scalar"):
            missing = _NO_OP in _refusal(spec)
        if not missing:
            yield spec


def _takes(spec: OpSpec, isa: str) -> bool:
    with forced(isa):
        return _NO_ISA not in _refusal(spec)


def _refusal(spec: OpSpec) -> str:
    """Start a session of one bare node, without a function body, and return what is said against it."""
    import onnxruntime as ort

    options = register(ort.SessionOptions())
    options.log_severity_level = 4
    results = ", ".join(port.name for port in spec.outputs)
    operands = ", ".join(port.name for port in spec.inputs)
    declared = [
        ", ".join(f"{port.type} {port.name}" for port in side) for side in (spec.inputs, spec.outputs)
    ]
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17, "{DOMAIN}": {VERSION}]>\n'
        f"asked ({declared[0]}) => ({declared[1]}) {{ {results} = {DOMAIN}.{spec.name} ({operands}) }}"
    )
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes share no public base
        return str(error)
    return ""
