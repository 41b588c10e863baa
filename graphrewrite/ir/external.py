"""Numbers in files beside the model: found safely on load, written whole on save.

A location that is absolute, leaves the model's folder or passes through a symbolic link out of it is refused: a model
file from elsewhere must not be able to read this machine's other files.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from graphrewrite.errors import InvalidModel
from graphrewrite.ir.values import FileRange, StoredValues, array_of, numpy_dtype_to_onnx, proto_from_constant, tensor_bytes

# Protobuf cannot serialise more than 2 GiB; leave room for the graph itself.
INLINE_LIMIT = 1_800_000_000
# Tensors below this stay inside the model file: a page of its own would cost more than the numbers.
SMALLEST_EXTERNAL = 1024
_PAGE = 4096


def locator(folder: Path) -> Callable[[TensorProto], FileRange | None]:
    """Return a function that finds the bytes of an external tensor of a model lying in `folder`."""
    root = folder.resolve()
    sizes: dict[Path, int] = {}

    def locate(tensor: TensorProto) -> FileRange | None:
        if tensor.data_location != TensorProto.EXTERNAL:
            return None
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = _inside(root, entries.get("location", ""), tensor.name)
        if path not in sizes:
            sizes[path] = path.stat().st_size
        try:
            offset = int(entries.get("offset") or 0)
            length = int(entries["length"]) if entries.get("length") else None
        except ValueError:
            raise InvalidModel(
                f"the external data of {tensor.name!r} has offset {entries.get('offset')!r} and length "
                f"{entries.get('length')!r}; both must be whole numbers; export the model again"
            ) from None
        if length is None:
            length = tensor_bytes(tensor.data_type, tuple(tensor.dims)) or sizes[path] - offset
        if offset < 0 or length < 0 or offset + length > sizes[path]:
            raise InvalidModel(
                f"the external data of {tensor.name!r} is bytes {offset}..{offset + length} of {path.name}, which has "
                f"{sizes[path]} bytes; the file is truncated or belongs to another model; fetch it again"
            )
        return FileRange(path, offset, length)

    return locate


def _inside(root: Path, location: str, tensor: str) -> Path:
    if not location or os.path.isabs(location) or "\\" in location or ":" in Path(location).parts[0]:
        raise InvalidModel(
            f"the external data of {tensor!r} lies at {location!r}; only a relative path inside the model's folder is "
            "read; move the data file beside the model and export again"
        )
    if ".." in Path(location).parts:
        raise InvalidModel(
            f"the external data of {tensor!r} lies at {location!r}, outside the model's folder; that is refused; "
            "move the data file beside the model and export again"
        )
    path = (root / location).resolve()
    if not path.is_relative_to(root):
        raise InvalidModel(
            f"the external data of {tensor!r} at {location!r} goes through a symbolic link out of the model's folder; "
            "that is refused; copy the data file beside the model"
        )
    if not path.is_file():
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
        self.temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.part")
        self._offset = 0
        self._written: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> "ExternalWriter":
        self._file = open(self.temporary, "wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if kind is not None or self._offset == 0:
            self.temporary.unlink(missing_ok=True)

    def encode(self, constant: gs.Constant) -> TensorProto | onnx.SparseTensorProto:
        """Write the numbers of a large tensor to the file and return its proto; small ones stay inline."""
        stored = constant._values
        if isinstance(stored, StoredValues) and isinstance(stored.tensor, onnx.SparseTensorProto):
            return proto_from_constant(constant)
        number = stored.tensor.data_type if isinstance(stored, StoredValues) else numpy_dtype_to_onnx(constant.dtype)
        size = tensor_bytes(number, tuple(constant.shape))
        if size < self.threshold or number == TensorProto.STRING:
            return proto_from_constant(constant)
        if id(stored) not in self._written:  # two names over one array are stored once
            start = -(-self._offset // _PAGE) * _PAGE if size >= _PAGE else -(-self._offset // 64) * 64
            self._file.write(b"\0" * (start - self._offset))
            array = array_of(constant)
            if size == array.nbytes:
                array.tofile(self._file) if array.flags.c_contiguous else self._file.write(array.tobytes())
            else:
                self._file.write(proto_from_constant(constant).raw_data)
            self._offset = start + size
            self._written[id(stored)] = (start, size)
        start, size = self._written[id(stored)]
        proto = TensorProto(name=constant.name, data_type=number, dims=list(constant.shape))
        doc = stored.tensor.doc_string if isinstance(stored, StoredValues) else getattr(constant, "doc_string", "")
        if doc:
            proto.doc_string = doc
        proto.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.final.name), ("offset", str(start)), ("length", str(size))):
            proto.external_data.add(key=key, value=value)
        return proto

    def commit(self) -> bool:
        """Flush to disk and move the data file to its final name; False when no tensor needed it."""
        self._file.flush()
        if self._offset == 0:
            return False
        os.fsync(self._file.fileno())
        os.replace(self.temporary, self.final)
        return True


def write_beside(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step, so that no reader ever sees half a file."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
