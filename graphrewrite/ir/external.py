"""Numbers in files beside the model: found safely on load, written whole on save.

A location that is absolute, leaves the model's folder or passes through a symbolic link out of it is refused: a model
file from elsewhere must not be able to read this machine's other files.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import Message
from onnx import TensorProto

from graphrewrite.errors import InvalidModel
from graphrewrite.ir.datafile import DataFile, FileRange
from graphrewrite.ir.values import (
    StoredValues,
    is_sparse,
    packed_bytes,
    proto_from_constant,
    stored_type,
    tensor_bytes,
    utf8,
    with_shell,
)

# Protobuf cannot serialise more than 2 GiB; leave room for the graph itself.
INLINE_LIMIT = 1_800_000_000
# Tensors below this stay inside the model file: a page of its own would cost more than the numbers.
SMALLEST_EXTERNAL = 1024
# So many data files are held open; a model of more (one file per tensor) opens the rest for each reading.
HELD_FILES = 64
_PAGE = 4096


class Locator:
    """Finds the bytes of the external tensors of a model lying in `folder`.

    Attributes:
        files: the data files found so far, by the location the model gives.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder.resolve()
        self.files: dict[str, DataFile] = {}

    def __call__(self, tensor: TensorProto) -> FileRange | None:
        """Return where a tensor's bytes lie, or None when the model file holds them itself.

        Raises:
            InvalidModel: the location is not allowed, or there are no such bytes.
        """
        if tensor.data_location != TensorProto.EXTERNAL:
            return None
        entries = {utf8(entry.key): utf8(entry.value) for entry in tensor.external_data}
        file = self._file(entries.get("location", ""), tensor.name)
        offset = _count(entries.get("offset", ""), "offset", tensor.name, 0)
        needed = tensor_bytes(tensor.data_type, tuple(tensor.dims)) if tensor.data_type else 0
        length = _count(entries.get("length", ""), "length", tensor.name, needed)
        if offset + length > file.size:
            raise InvalidModel(
                f"the external data of {tensor.name!r} is bytes {offset}..{offset + length} of {file.path.name}, "
                f"which has {file.size} bytes; the file is truncated or belongs to another model; fetch it again"
            )
        return FileRange(file.path, offset, length, file)

    def _file(self, location: str, tensor: str) -> DataFile:
        if location not in self.files:
            path = _inside(self._root, location, tensor)
            try:
                self.files[location] = DataFile(path, held=len(self.files) < HELD_FILES)
            except OSError as error:
                raise InvalidModel(
                    f"the external data of {tensor!r} in {location!r} cannot be read ({error.strerror}); "
                    "expected a readable file beside the model; check its permissions"
                ) from error
        return self.files[location]


def read_in(message: Message, locate: Callable[[TensorProto], FileRange | None]) -> None:
    """Bring external numbers anywhere inside a proto into it: for parts of a model that stay protos."""
    for tensor in _tensors_in(message):
        source = locate(tensor)
        if source is not None:
            tensor.raw_data = source.read().tobytes()
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")


def _tensors_in(message: Message) -> Iterator[TensorProto]:
    """Yield every tensor inside a proto, refusing text that is not UTF-8 on the way."""
    stack = [message]
    while stack:
        current = stack.pop()
        if isinstance(current, TensorProto):
            yield current
            continue
        for field, value in current.ListFields():
            values = [value] if isinstance(value, (Message, str, bytes)) else value
            if field.message_type is not None:
                stack.extend(values)
            elif field.type == field.TYPE_STRING:
                for text in values:
                    utf8(text)


def _count(text: str, what: str, tensor: str, default: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InvalidModel(
            f"the external data of {tensor!r} has the {what} {text[:40]!r}; expected a whole number of zero or more; "
            "export the model again"
        )
    return int(text)


def _inside(root: Path, location: str, tensor: str) -> Path:
    parts = Path(location).parts
    if not parts or os.path.isabs(location) or "\\" in location or "\0" in location or ":" in parts[0]:
        raise InvalidModel(
            f"the external data of {tensor!r} lies at {location!r}; only a relative path inside the model's folder is "
            "read; move the data file beside the model and export again"
        )
    if ".." in parts:
        raise InvalidModel(
            f"the external data of {tensor!r} lies at {location!r}, outside the model's folder; that is refused; "
            "move the data file beside the model and export again"
        )
    try:
        path = (root / location).resolve()
        found = path.is_file()
    except (OSError, RuntimeError):  # a name too long, a loop of links
        path, found = root / location, False
    if not path.is_relative_to(root):
        raise InvalidModel(
            f"the external data of {tensor!r} at {location!r} goes through a symbolic link out of the model's folder; "
            "that is refused; copy the data file beside the model"
        )
    if not found:
        raise InvalidModel(
            f"the external data of {tensor!r} should lie in {location!r} beside the model, but there is no such file; "
            "copy it there too"
        )
    return path


class ExternalWriter:
    """Streams large tensors into one new data file; used as a context so that a failure leaves nothing behind."""

    def __init__(self, final: Path, threshold: int = SMALLEST_EXTERNAL) -> None:
        self.final = final
        self.threshold = threshold
        self.temporary = _spare(final)
        self._offset = 0
        self._written: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> "ExternalWriter":
        self._file: BinaryIO = open(self.temporary, "wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.temporary.unlink(missing_ok=True)

    def encode(self, constant: gs.Constant) -> TensorProto | onnx.SparseTensorProto:
        """Write the numbers of a large tensor to the file and return its proto; small ones stay inline."""
        if is_sparse(constant):
            return proto_from_constant(constant)
        number = stored_type(constant)
        size = tensor_bytes(number, tuple(constant.shape))
        if size < self.threshold or size == 0:
            return proto_from_constant(constant)
        key = id(constant._values)
        if key not in self._written:  # two names over one array are stored once
            self._written[key] = (self._write(constant, size), size)
        proto = TensorProto(data_type=number, dims=constant.shape, data_location=TensorProto.EXTERNAL)
        start, size = self._written[key]
        for name, value in (("location", self.final.name), ("offset", str(start)), ("length", str(size))):
            proto.external_data.add(key=name, value=value)
        return with_shell(proto, constant)

    def _write(self, constant: gs.Constant, size: int) -> int:
        unit = _PAGE if size >= _PAGE else 64
        start = -(-self._offset // unit) * unit
        self._file.write(b"\0" * (start - self._offset))
        stored = constant._values
        if isinstance(stored, StoredValues) and stored.source is not None:
            stored.source.copy_to(self._file)  # from file to file, without passing through the memory map
        else:
            self._file.write(packed_bytes(constant).data)
        self._offset = start + size
        return start

    def commit(self, model: Path | None = None, content: bytes = b"") -> bool:
        """Move the data file to its final name, and with it, all or nothing, write `content` to `model`.

        Returns False when no tensor needed a data file; then there is none.
        """
        self._file.flush()
        moves = []
        if self._offset:
            os.fsync(self._file.fileno())
            moves.append((self.temporary, self.final))
        if model is None:
            _move(moves)
        else:
            _move_with(moves, model, content)
        return self._offset > 0


def write_beside(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step, so that no reader ever sees half a file."""
    _move_with([], path, content)


def _move_with(moves: list[tuple[Path, Path]], path: Path, content: bytes) -> None:
    temporary = _spare(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _move([*moves, (temporary, path)])
    finally:
        temporary.unlink(missing_ok=True)


def _move(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename each first path to the second; when one fails, those already replaced come back."""
    for _, final in moves:
        if final.is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{final.name} is a folder")
    before: dict[Path, Path | None] = {}
    try:
        for temporary, final in moves:
            if len(moves) > 1:
                before[final] = _set_aside(final)
            os.replace(temporary, final)
    except BaseException:
        for final, old in before.items():
            if old is None:
                final.unlink(missing_ok=True)
            else:
                os.replace(old, final)
        raise
    finally:
        for old in before.values():
            if old is not None:
                old.unlink(missing_ok=True)


def _set_aside(path: Path) -> Path | None:
    """Keep a file under a second name until the new one is safely in place; None when there is no such file."""
    if not path.exists():
        return None
    spare = _spare(path)
    try:
        os.link(path, spare)
    except OSError:  # a file system without hard links
        os.replace(path, spare)
    return spare


def _spare(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
