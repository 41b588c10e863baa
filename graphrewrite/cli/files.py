"""Paths given by users: checked before any work begins, so that an input is never overwritten and no work is lost."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.values import StoredValues

_CHUNK = 1 << 22


def check_outputs(
    outputs: Sequence[str | os.PathLike[str]], inputs: Iterable[str | os.PathLike[str]]
) -> None:
    """Refuse outputs that cannot be written, are the same file as an input, or as each other.

    Raises:
        InvalidConfig: the message names the path and what to choose instead.
    """
    sources = [Path(path) for path in inputs]
    seen: list[Path] = []
    for given in outputs:
        path = Path(given)
        if str(given) in ("", "-"):
            raise InvalidConfig(
                f"the output {str(given)!r} is no file name; expected a path to write; name a file"
            )
        if path.is_dir():
            raise InvalidConfig(
                f"the output {str(path)!r} is a folder; expected a file name; write to {str(path / 'model.onnx')!r}"
            )
        if not path.parent.is_dir():
            raise InvalidConfig(
                f"the folder {str(path.parent)!r} of the output does not exist; expected one that does; create it first"
            )
        if path.exists() and not path.is_file():
            raise InvalidConfig(
                f"the output {str(path)!r} is a device or pipe; a model is written to a regular file; name one"
            )
        if not os.access(path.parent, os.W_OK):
            raise InvalidConfig(
                f"the folder {str(path.parent)!r} of the output cannot be written; expected one that can be; "
                "choose another"
            )
        for source in sources:
            if _same(path, source):
                raise InvalidConfig(
                    f"the output {str(path)!r} is the input itself, which is never modified; expected another file; "
                    "choose another name"
                )
        for other in seen:
            if _same(path, other):
                raise InvalidConfig(
                    f"two outputs have the name {str(path)!r}; expected a file for each; give each its own"
                )
        seen.append(path)


def data_files(model: Model) -> list[Path]:
    """Return the external data files a loaded model reads its numbers from."""
    found: dict[Path, None] = {}
    for constant in _constants(model):
        stored = constant._values
        if isinstance(stored, StoredValues) and stored.source is not None:
            found[stored.source.path] = None
    return list(found)


def check_data_output(model: Model, output: str | os.PathLike[str]) -> None:
    """Refuse an output whose data file would replace one that the input model is read from.

    Raises:
        InvalidConfig: the message names the file.
    """
    beside = Path(output).with_name(f"{Path(output).name}.data")
    for file in data_files(model):
        if _same(Path(output), file) or _same(beside, file):
            raise InvalidConfig(
                f"writing {str(output)!r} would replace {file.name!r}, which holds numbers of the input model; "
                "the input is never modified; choose another name"
            )


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _constants(model: Model) -> Iterable[gs.Constant]:
    for graph in all_graphs(model.graph):
        yield from graph.initializers.values()
        for node in graph.nodes:
            yield from (value for value in node.attrs.values() if isinstance(value, gs.Constant))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()
