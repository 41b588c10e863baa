"""What was measured in an earlier run, in a JSON file: calibrating takes long, and what follows is tried again."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from graphrewrite.errors import InvalidData
from graphrewrite.ir import Model
from graphrewrite.ir.external import write_beside
from graphrewrite.passes.quant.grid import Floats, Span
from graphrewrite.serial import Json, parse

_VERSION = 1
_Entry: TypeAlias = dict[str, dict[str, list[float]]]


class CalibrationCache:
    """Spans and means by tensor name, for one model, method and data set at a time; others in the file are kept.

    A key names all that the spans hang on, except what the data holds: that is known by its number of samples only.

    Raises:
        InvalidData: the file is there and holds something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._entries: dict[str, _Entry] = {}
        if self._path.exists():
            self._entries = self._read()

    def _read(self) -> "dict[str, _Entry]":
        found = parse(self._path.read_text(encoding="utf-8"), f"the calibration cache {str(self._path)!r}")
        if not isinstance(found, dict) or found.get("version") != _VERSION:
            raise InvalidData(
                f"{str(self._path)!r} is no calibration cache of version {_VERSION}; expected a file that an earlier "
                "run wrote; name another file, or delete it"
            )
        return cast("dict[str, _Entry]", found["entries"])

    def spans(self, key: str) -> dict[str, Span]:
        """Return the spans there are."""
        return {name: Span(*ends) for name, ends in self._entries.get(key, {}).get("spans", {}).items()}

    def means(self, key: str) -> dict[str, Floats]:
        """Return the means there are."""
        return {
            name: np.asarray(values) for name, values in self._entries.get(key, {}).get("means", {}).items()
        }

    def keep(self, key: str, spans: Mapping[str, Span], means: Mapping[str, Floats]) -> None:
        """Add what was measured and write the file."""
        entry = self._entries.setdefault(key, {})
        entry.setdefault("spans", {}).update({name: [*span] for name, span in spans.items()})
        entry.setdefault("means", {}).update({name: values.tolist() for name, values in means.items()})
        document = {"version": _VERSION, "entries": self._entries}
        write_beside(self._path, json.dumps(document, indent=1, sort_keys=True).encode("utf-8"))


def key_of(model: Model, method: Json, samples: int) -> str:
    """Return a digest of a model's nodes and weights, a method of calibration, and a number of samples."""
    digest = hashlib.sha256(json.dumps([method, samples], sort_keys=True).encode())
    for node in model.graph.nodes:
        ends = [tensor.name for tensor in (*node.inputs, *node.outputs)]
        digest.update(repr((node.op, node.domain, ends, sorted(node.attrs))).encode())
    for name in sorted(model.graph.initializers):
        values = np.ascontiguousarray(model.weights[name])
        digest.update(f"{name}{values.shape}{values.dtype}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
