"""A folder in which a pipeline leaves every finished step, so that a run that was killed continues where it was."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from graphrewrite.errors import GraphRewriteError, InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.external import write_beside
from graphrewrite.ir.outline import outline
from graphrewrite.ir.values import is_sparse, packed_bytes, stored_type
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.report import StepReport
from graphrewrite.serial import from_json, parse, to_json

_FILE = "journal.json"
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Entry:
    """A finished step: its report, and the file of the model after it (None when the step changed nothing).

    `origin` is `Model.origin`, which a model file has no place for.
    """

    report: StepReport
    model: str | None
    origin: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Book:
    key: str
    entries: tuple[Entry, ...] = ()


class Journal:
    """The record of one run in `folder`.

    A run belongs to its journal when the pipeline, the seed and the input model are the same, weights included.
    Each step's model is written before the journal names it, and the journal is replaced in one move, so that being
    killed at any moment loses at most the step that was running.

    Raises:
        InvalidConfig: the folder holds the journal of another run, or one that cannot be read.
    """

    def __init__(self, folder: Path, pipeline: str, model: Model, seed: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = key_of(pipeline, model, seed)
        self.entries: list[Entry] = []
        path = folder / _FILE
        if not path.exists():
            return
        try:
            book = from_json(parse(path.read_text(encoding="utf-8"), f"the journal {str(path)!r}"), _Book)
        except (GraphRewriteError, UnicodeDecodeError) as error:
            raise InvalidConfig(
                f"the journal {str(path)!r} cannot be read ({error}); expected one written by a pipeline; "
                "choose another folder, or empty this one"
            ) from error
        if cast(_Book, book).key != self._key:
            raise InvalidConfig(
                f"the folder {str(folder)!r} holds the journal of another run (other steps, seed or input model); "
                "expected this run's or none; choose another folder, or empty this one"
            )
        self.entries = list(cast(_Book, book).entries)

    def model_after(self, model: Model) -> Model:
        """Return the model after the last finished step, given the one that went in."""
        changed = next((entry for entry in reversed(self.entries) if entry.model is not None), None)
        if changed is None or changed.model is None:
            return model
        loaded = Model.load(self.folder / changed.model)
        loaded.origin = {name: (old, how) for name, (old, how) in changed.origin.items()}
        return loaded

    def folder_of(self, index: int) -> Path:
        """Return where the step of this index may keep what it needs to go on; it is made by whoever writes there."""
        return self.folder / f"step-{index + 1:02d}"

    def add(self, report: StepReport, model: Model) -> None:
        """Write down a finished step."""
        name = f"step-{len(self.entries) + 1:02d}.onnx" if report.changed else None
        if name is not None:
            model.save(self.folder / name)
        self.entries.append(Entry(report, name, dict(model.origin)))
        book = _Book(self._key, tuple(self.entries))
        write_beside(self.folder / _FILE, json.dumps(to_json(book), indent=1, allow_nan=False).encode())


def key_of(pipeline: str, model: Model, seed: int) -> str:
    """Hash everything the result of a run depends on but its data; weights are read in pieces."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (pipeline.encode(), str(seed).encode(), outline(model).SerializeToString(deterministic=True)):
        digest.update(len(part).to_bytes(8, "little") + part)
    for graph in all_graphs(model.graph):
        for name, constant in graph.initializers.items():
            digest.update(f"{name}:{stored_type(constant)}:{list(constant.shape)}".encode())
            if not is_sparse(constant) and constant.dtype != object:  # the outline holds those in full
                data = packed_bytes(constant)
                for start in range(0, len(data), _CHUNK):
                    digest.update(data[start : start + _CHUNK].data)
    return digest.hexdigest()


def journal_json(folder: Path) -> Json:
    """Return the journal of a folder as JSON, for front ends that show how far a run has come."""
    return parse((folder / _FILE).read_text(encoding="utf-8"), f"the journal in {str(folder)!r}")
