"""onnx's own cases for every operator, run through the bridge and judged at the suite's tolerances.

`python tests/engine/bridge/backend.py [PATTERN ...] [--frozen] [--list]` prints what fails and why.
"""

import argparse
import fnmatch
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.numbers import Fed
from graphrewrite.errors import GraphRewriteError, UnsupportedOp
from graphrewrite.ir import Model

_NARROW = {
    getattr(TensorProto, name)
    for name in dir(TensorProto)
    if name.startswith(("FLOAT8", "FLOAT6", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2"))
}


@cache
def cases() -> dict[str, TestCase]:
    """Return all node cases of the installed onnx by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in load_model_tests(kind="node")}


def proto_of(case: TestCase) -> onnx.ModelProto:
    """Return a case's model."""
    assert case.model is not None
    return case.model


def tags(case: TestCase) -> set[str]:
    """Return what sets a case apart from plain numbers: text, sequence, optional, narrow, training, ml."""
    found: set[str] = set()
    model = proto_of(case)
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.WhichOneof("value")
        if kind in ("sequence_type", "optional_type"):
            found.add(kind.split("_")[0])
        types = [int(number) for number in _types(value.type)]
        if TensorProto.STRING in types:
            found.add("text")
        if _NARROW & set(types):
            found.add("narrow")
    domains = {entry.domain for entry in model.opset_import}
    found |= {kind for kind in ("training", "ml") if any(kind in domain for domain in domains)}
    return found


def _types(kind: onnx.TypeProto) -> Iterator[int]:
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        yield getattr(kind, which).elem_type
    elif which in ("sequence_type", "optional_type"):
        yield from _types(getattr(kind, which).elem_type)


@dataclass(frozen=True)
class Verdict:
    """How a case went: "passed", "unsupported", "wrong" (other numbers, silently) or "failed" (an error), and why."""

    kind: str
    why: str = ""


def judged(case: TestCase, frozen: bool = False) -> Verdict:
    """Run a case; with `frozen` all inputs but the first are initializers."""
    for inputs, wanted in case.data_sets or ():
        names = [value.name for value in proto_of(case).graph.input]
        feeds = {name: plain_of(value) for name, value in zip(names, inputs, strict=False)}
        proto = with_weights(proto_of(case), feeds) if frozen else proto_of(case)
        try:
            model = Model.from_proto(proto)
            module = GraphModule(model).eval()
            found = module.run({tensor.name: feeds[tensor.name] for tensor in model.inputs})
        except UnsupportedOp as error:
            return Verdict("unsupported", str(error))
        except (GraphRewriteError, Exception) as error:
            return Verdict("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        for name, value in zip(found, wanted, strict=False):
            why = difference(plain_of(value), found[name], case.rtol, case.atol)
            if why:
                return Verdict("wrong", f"{name}: {why}")
    return Verdict("passed")


def difference(wanted: Fed, found: Fed, rtol: float, atol: float) -> str:
    """Return how two outputs differ, nothing when they agree in type, shape and numbers."""
    if wanted is None or found is None:
        return (
            "" if wanted is None and found is None else f"wanted {wanted is None and 'nothing' or 'a value'}"
        )
    if isinstance(wanted, list) or isinstance(found, list):
        if not isinstance(wanted, list) or not isinstance(found, list) or len(wanted) != len(found):
            return "lists of other lengths"
        return next(
            filter(None, (difference(w, f, rtol, atol) for w, f in zip(wanted, found, strict=True))), ""
        )
    if wanted.dtype != found.dtype:
        return f"type {found.dtype}, expected {wanted.dtype}"
    if wanted.shape != found.shape:
        return f"shape {found.shape}, expected {wanted.shape}"
    if wanted.dtype.kind in "iub":
        count = int((wanted != found).sum())
        return f"{count} of {wanted.size} numbers differ" if count else ""
    one, two = (a.astype(np.complex128 if a.dtype.kind == "c" else np.float64) for a in (wanted, found))
    if np.allclose(two, one, rtol=rtol, atol=atol, equal_nan=True):
        return ""
    with np.errstate(all="ignore"):
        return f"numbers differ by up to {np.nanmax(np.abs(one - two)):.3g}"


def plain_of(value: object) -> Fed:
    """Return what a case holds as arrays, lists of them, or None."""
    if isinstance(value, (list, tuple)):
        return [plain_of(entry) for entry in value]
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return None if value is None else np.asarray(value)


def with_weights(proto: onnx.ModelProto, feeds: Mapping[str, Fed]) -> onnx.ModelProto:
    """Return a copy in which every tensor input but the first is an initializer."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    moved = [
        value
        for value in list(copy.graph.input)[1:]
        if isinstance(feeds.get(value.name), np.ndarray) and value.type.WhichOneof("value") == "tensor_type"
    ]
    for value in moved:
        copy.graph.input.remove(value)
        copy.graph.initializer.append(numpy_helper.from_array(np.asarray(feeds[value.name]), value.name))
    return copy


def main(patterns: Sequence[str], frozen: bool, listing: bool) -> None:
    """Print the verdicts."""
    chosen = {n: c for n, c in cases().items() if any(fnmatch.fnmatch(n, p) for p in patterns or ["*"])}
    verdicts = {}
    for name, case in chosen.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            verdicts[name] = judged(case, frozen)
        if verdicts[name].kind != "passed":
            print(f"{verdicts[name].kind:11} {name} {sorted(tags(case)) or ''}: {verdicts[name].why[:300]}")
        elif listing:
            print(f"passed      {name}")
    plain = [name for name, case in chosen.items() if not tags(case)]
    print("all:", dict(Counter(v.kind for v in verdicts.values())))
    print("plain numbers:", dict(Counter(verdicts[n].kind for n in plain)), file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("--list", action="store_true")
    chosen = parser.parse_args()
    main(chosen.patterns, chosen.frozen, chosen.list)
