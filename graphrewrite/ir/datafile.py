"""The bytes of external-data files, unchanged for as long as a model needs them.

A file is opened when the model is loaded and stays open: should the path be replaced later (a save over the loaded
model does that), the open file still holds the old bytes, so no tensor ever reads numbers of another model.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidModel

Bytes = npt.NDArray[np.uint8]

_COPY_CHUNK = 8 << 20


class DataFile:
    """One external-data file.

    Attributes:
        path: where it lay when the model was loaded.
        size: its size then, in bytes.

    `held=False` is for models spread over very many files, where open files would run out: the file is then opened
    for each reading, and refused when it is no longer the file that was found at first.
    """

    def __init__(self, path: Path, held: bool = True) -> None:
        self.path = path
        self._handle: BinaryIO | None = None
        self._map: Bytes | None = None
        self._lock = Lock()
        with open(path, "rb") as probe:
            self._stamp = _stamp(probe)
        self.size = self._stamp[2]
        if held:
            self._handle = open(path, "rb")  # noqa: SIM115 - lives as long as this object

    @property
    def held(self) -> bool:
        """Whether the file stays open, so that `read` may hand out views of one memory map."""
        return self._handle is not None

    def read(self, offset: int, length: int) -> Bytes:
        """Return `length` bytes as a flat array: read-only pages of the file where it is held, else a copy."""
        if length == 0:
            return np.zeros(0, dtype=np.uint8)
        if self._handle is not None:
            if self._map is None:
                self._map = np.asarray(np.memmap(self._handle, dtype=np.uint8, mode="r"))
            return self._map[offset : offset + length]
        with self._opened() as file:
            file.seek(offset)
            found = np.fromfile(file, dtype=np.uint8, count=length)
        return found

    def copy_to(self, offset: int, length: int, target: BinaryIO) -> None:
        """Append `length` bytes to `target` a few megabytes at a time, without mapping them into memory."""
        while length > 0:
            with self._opened() as file:
                file.seek(offset)
                chunk = file.read(min(length, _COPY_CHUNK))
            if not chunk:
                raise self._changed()
            target.write(chunk)
            offset += len(chunk)
            length -= len(chunk)

    def release(self) -> None:
        """Take the pages read so far out of this process's memory; arrays stay valid and read them in again.

        For the moment before something else (onnxruntime) maps the same file: its pages would count twice.
        """
        mapped = getattr(self._map, "base", None)
        if isinstance(mapped, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def is_current(self) -> bool:
        """Tell whether `path` still leads to this very file."""
        try:
            with open(self.path, "rb") as probe:
                return _stamp(probe) == self._stamp
        except OSError:
            return False

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if self._handle is not None:
            with self._lock:  # readers share its position
                yield self._handle
            return
        try:
            file = open(self.path, "rb")  # noqa: SIM115 - the errors of opening it are not those of using it
        except OSError as error:
            raise self._changed() from error
        with file:
            if _stamp(file) != self._stamp:
                raise self._changed()
            yield file

    def _changed(self) -> InvalidModel:
        return InvalidModel(
            f"the data file {self.path.name!r} is no longer what it was when the model was loaded; "
            "it must stay as it is while the model is in use; load the model again"
        )


@dataclass(frozen=True)
class FileRange:
    """A run of bytes in an external-data file: `[offset, offset + length)` of the file that lay at `path`.

    `read` goes through `file`, which is open; going by `path` is right only while `is_current` says so.
    """

    path: Path
    offset: int
    length: int
    file: DataFile | None = field(default=None, compare=False, repr=False)

    def read(self) -> Bytes:
        """Return the bytes as a flat read-only array, see `DataFile.read`."""
        return (self.file or DataFile(self.path)).read(self.offset, self.length)

    def copy_to(self, target: BinaryIO) -> None:
        """Append the bytes to an open file."""
        (self.file or DataFile(self.path)).copy_to(self.offset, self.length, target)

    def is_current(self) -> bool:
        """Tell whether `path` still holds the file the model was loaded from (a save may have replaced it)."""
        return self.file is None or self.file.is_current()


def _stamp(file: BinaryIO) -> tuple[int, int, int, int]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
