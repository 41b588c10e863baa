"""Folders of .npy files, read batch by batch: memory holds one batch, whatever the folder holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.data.fit import LABELS, as_labels, fit, fit_array, listed, only_input, shape_text, signature
from graphrewrite.data.source import Arrays
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Array, Model

ARRAY_SUFFIX = ".npy"


@dataclass(frozen=True)
class ArrayFile:
    """One file: `samples` on axis 0, or one sample without that axis."""

    path: Path
    samples: int
    is_batch: bool

    def read(self, start: int, stop: int) -> Array:
        """Return some of its samples, with the sample axis."""
        array = open_array(self.path)
        return np.array(array[start:stop]) if self.is_batch else np.array(array)[None]


@dataclass(frozen=True)
class FolderSource:
    """Samples in files: input name -> files in the order of their names."""

    files: dict[str, tuple[ArrayFile, ...]]
    model: Model
    what: str
    labels: npt.NDArray[np.generic] | None = None

    def __len__(self) -> int:
        return sum(file.samples for file in next(iter(self.files.values())))

    def batches(self, size: int, seed: int = 0) -> Iterator[Arrays]:
        """Yield batches in the order of the file names.

        Raises:
            InvalidData: a file has changed, or its values do not fit the input.
        """
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield fit(
                {name: _slice(files, start, stop) for name, files in self.files.items()},
                self.model,
                self.what,
            )


def folder_source(path: Path, model: Model) -> FolderSource:
    """Open a folder of .npy files.

    Raises:
        InvalidData: a file cannot be read or does not fit, or an input has no files.
    """
    what = f"the folder {str(path)!r}"
    labels_file = next(
        (path / f"{name}{ARRAY_SUFFIX}" for name in LABELS if (path / f"{name}{ARRAY_SUFFIX}").is_file()),
        None,
    )
    plain = [file for file in _array_files(path) if file != labels_file]
    if plain:
        tensor = only_input(model, what)
        files = {tensor.name: _headers(plain, tensor)}
    else:
        files = {
            tensor.name: _headers(_of_input(path, tensor, model, what), tensor) for tensor in model.inputs
        }
    counts = {name: sum(file.samples for file in group) for name, group in files.items()}
    if not counts or len(set(counts.values())) != 1 or not next(iter(counts.values())):
        raise InvalidData(
            f"{what} has {counts or 'no'} samples; expected the same number, at least one, for every input "
            f"({signature(model)}); check the files"
        )
    labels = None
    if labels_file is not None:
        labels = as_labels(np.array(open_array(labels_file)), next(iter(counts.values())), what)
    return FolderSource(files, model, what, labels)


def open_array(path: Path) -> Array:
    """Map a file without reading its numbers; Python objects are refused.

    Raises:
        InvalidData: it is no array of numbers.
    """
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (OSError, ValueError, EOFError) as error:
        if "mmap" in str(error) or "empty" in str(error):
            return _read_small(path)
        why = "it holds Python objects" if "object" in str(error).lower() else " ".join(str(error).split())
        raise InvalidData(
            f"{str(path)!r} cannot be read ({why}); expected an array of numbers; save it again with numpy.save"
        ) from error


def _read_small(path: Path) -> Array:
    """Read what cannot be mapped: arrays without elements."""
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise InvalidData(
            f"{str(path)!r} cannot be read ({' '.join(str(error).split())}); expected an array of numbers; save it "
            "again with numpy.save"
        ) from error


def _array_files(path: Path) -> list[Path]:
    return sorted(
        entry for entry in path.iterdir() if entry.is_file() and entry.suffix.lower() == ARRAY_SUFFIX
    )


def _of_input(path: Path, tensor: gs.Variable, model: Model, what: str) -> list[Path]:
    # names such as "images:0" and "encoder/x" are no file names everywhere
    for name in (tensor.name, tensor.name.replace("/", "_").replace(":", "_")):
        inner = path / name
        if ".." not in Path(name).parts and not Path(name).is_absolute() and inner.is_dir():
            files = _array_files(inner)
            if files:
                return files
    present = listed(sorted(entry.name for entry in path.iterdir() if entry.is_dir())) or "none"
    raise InvalidData(
        f"{what} has no subfolder with .npy files for the input {tensor.name!r} (there is {present}); expected one for "
        f"each of {signature(model)}; rename the subfolders"
    )


def _headers(paths: Sequence[Path], tensor: gs.Variable) -> tuple[ArrayFile, ...]:
    """Look at the first bytes of every file; a file with one axis less than the input is one sample."""
    found = []
    for path in paths:
        array = open_array(path)
        single = tensor.shape is not None and array.ndim == len(tensor.shape) - 1
        if not single and not array.ndim:
            raise InvalidData(
                f"{str(path)!r} holds a single number for the input {tensor.name!r}; expected {shape_text(tensor)} or "
                "one sample of it; save whole samples"
            )
        # checks rank and sizes on no data at all
        empty = np.empty((0, *(array.shape if single else array.shape[1:])), np.float32)
        fit_array(empty.astype(tensor.dtype) if tensor.dtype is not None else empty, tensor, repr(str(path)))
        found.append(ArrayFile(path, 1 if single else len(array), not single))
    return tuple(found)


def _slice(files: Sequence[ArrayFile], start: int, stop: int) -> Array:
    """Return samples [start, stop) of the concatenated files."""
    parts = []
    position = 0
    for file in files:
        first, last = max(start - position, 0), min(stop - position, file.samples)
        if first < last:
            parts.append(file.read(first, last))
        position += file.samples
        if position >= stop:
            break
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise InvalidData(
            f"the files {listed([file.path.name for file in files])} hold samples of different sizes "
            f"({', '.join(str(list(shape)) for shape in sorted(shapes))}); expected one size; pad or crop them"
        )
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
