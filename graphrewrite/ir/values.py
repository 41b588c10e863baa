"""Where a tensor's numbers live: in memory, in a proto field, or in a file beside the model.

Arrays are read-only and shared between clones; a pass replaces an array, it never writes into one. Numbers in
external files are memory-mapped on first use, so a model larger than memory can be rewritten where it is touched.
"""

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphrewrite.errors import InvalidModel
from graphrewrite.ir.datafile import FileRange as FileRange
from graphrewrite.ir.domains import domain_name

Array = npt.NDArray[np.generic]

# Below this many bytes a tensor keeps its proto as it came: copying it costs less than an array object.
_SMALL = 256
# Bits of one element in the packed (raw) form of the types below a byte, and elements per entry of the typed field.
_PACKED = {
    getattr(TensorProto, name): (bits, per_entry)
    for name, bits, per_entry in (
        ("INT4", 4, 2),
        ("UINT4", 4, 2),
        ("FLOAT4E2M1", 4, 2),
        ("INT2", 2, 4),
        ("UINT2", 2, 4),
        ("FLOAT6E2M3", 6, 1),
        ("FLOAT6E3M2", 6, 1),
    )
    if hasattr(TensorProto, name)
}
_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)


class StoredValues(LazyValues):  # type: ignore[misc]
    """Numbers still in the form they were loaded in: a tensor proto, or a range of an external file.

    Exporting an untouched tensor writes the very same proto back, so typed fields, odd dtypes and sparse layouts
    survive a round trip bit for bit.
    """

    def __init__(self, tensor: TensorProto | onnx.SparseTensorProto, source: FileRange | None = None) -> None:
        self.tensor = tensor
        self.source = source
        stored = tensor.values if isinstance(tensor, onnx.SparseTensorProto) else tensor
        self.shape = tuple(tensor.dims)
        self.dtype = onnx_dtype_to_numpy(stored.data_type)
        self.nbytes = tensor_bytes(stored.data_type, self.shape)
        self._array: Array | None = None

    def load(self) -> Array:
        """Return the numbers as a read-only array (a memory map when they lie in an external file).

        Raises:
            InvalidModel: what is stored does not make such a tensor.
        """
        if self._array is not None:
            return self._array
        try:
            array = self._read()
        except (ValueError, IndexError, TypeError) as error:
            raise InvalidModel(
                f"the numbers of a tensor of shape {list(self.shape)} cannot be read ({error}); expected as many as "
                "the shape says; the file is damaged; export it again"
            ) from error
        array.flags.writeable = False
        if self.source is None or self.source.file is None or self.source.file.held:
            self._array = array
        return array

    def _read(self) -> Array:
        if isinstance(self.tensor, onnx.SparseTensorProto):
            return _densify(self.tensor)
        if self.source is None:
            return (
                _strings(self.tensor) if self.tensor.data_type == TensorProto.STRING else _dense(self.tensor)
            )
        raw = self.source.read()
        if self.tensor.data_type in _PACKED:
            return _dense(_with_raw(self.tensor, raw.tobytes()))
        return raw.view(self.dtype).reshape(self.shape)


def array_of(constant: gs.Constant) -> Array:
    """Return a constant's numbers, read-only, without giving up the form they are stored in."""
    stored = constant._values
    array = np.asarray(stored.load() if isinstance(stored, LazyValues) else stored)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def let_go(constant: gs.Constant) -> None:
    """Take the file pages behind a constant, and all others of that file, out of this process's memory.

    For whoever reads many large weights one after the other. Arrays stay valid and are read in again when needed; a
    constant that lies in no file is left as it is.
    """
    stored = constant._values
    source = stored.source if isinstance(stored, StoredValues) else None
    if source is not None and source.file is not None:
        source.file.release()


def constant_value(tensor: gs.Tensor) -> Array | None:
    """Return the numbers of a tensor that cannot change between runs, or None.

    Looks in both homes: initializers and outputs of `Constant` nodes (all attribute forms).
    """
    if isinstance(tensor, gs.Constant):
        return array_of(tensor)
    if len(tensor.inputs) != 1 or tensor.inputs[0].op != "Constant" or domain_name(tensor.inputs[0].domain):
        return None
    for name, value in tensor.inputs[0].attrs.items():
        if isinstance(value, gs.Constant):
            return array_of(value) if name in ("value", "sparse_value") else None
        if name == "value" and isinstance(value, np.ndarray):
            return np.asarray(value)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, dtype=np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, dtype=np.int64)
        if name in ("value_string", "value_strings"):
            return np.asarray(value, dtype=object)
    return None


@cache
def onnx_dtype_to_numpy(data_type: int) -> np.dtype[np.generic]:
    """Map an ONNX element type to numpy (ml_dtypes for bf16, fp8 and the sub-byte types)."""
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type))
    except KeyError:
        raise InvalidModel(
            f"a tensor has the element type number {data_type}, which this onnx release does not know; "
            "the file is damaged or newer than the installed onnx package; re-export it or update onnx"
        ) from None


@cache
@cache
def numpy_dtype_to_onnx(dtype: np.dtype[np.generic]) -> int:
    """Map a numpy (or ml_dtypes) element type to the ONNX number."""
    try:
        return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    except ValueError:
        raise InvalidModel(
            f"an array has the element type {np.dtype(dtype)}, which ONNX cannot store; expected one of its tensor "
            "types, such as float32 or int64; convert the array first"
        ) from None


def tensor_bytes(data_type: int, shape: tuple[int, ...]) -> int:
    """Return the bytes a tensor takes in a file (sub-byte types are packed); strings count as zero."""
    count = math.prod(shape)
    if data_type in _PACKED:
        return (count * _PACKED[data_type][0] + 7) // 8
    if data_type == TensorProto.STRING:
        return 0
    return count * onnx_dtype_to_numpy(data_type).itemsize


def stored_type(constant: gs.Constant) -> int:
    """Return the ONNX element type of a constant without reading its numbers."""
    stored = constant._values
    if isinstance(stored, StoredValues):
        tensor = stored.tensor
        return int(
            tensor.values.data_type if isinstance(tensor, onnx.SparseTensorProto) else tensor.data_type
        )
    return numpy_dtype_to_onnx(constant.dtype)


def is_sparse(constant: gs.Constant) -> bool:
    """Tell whether a constant is stored as a sparse tensor."""
    stored = constant._values
    return isinstance(stored, StoredValues) and isinstance(stored.tensor, onnx.SparseTensorProto)


def constant_from_proto(tensor: TensorProto, source: FileRange | None = None) -> gs.Constant:
    """Wrap a stored tensor as a graph constant; raw bytes become an array at once so that the file's proto can go.

    Raises:
        InvalidModel: unknown element type, negative dimension, or another number of elements than the shape says.
    """
    utf8(tensor.name), utf8(tensor.doc_string)
    shape = tuple(tensor.dims)
    raw = tensor.raw_data if source is None and tensor.HasField("raw_data") else None
    _check_count(tensor, shape, source, raw)
    if raw is not None and len(raw) > _SMALL and tensor.data_type not in _PACKED:
        constant = gs.Constant(
            tensor.name, np.frombuffer(raw, dtype=onnx_dtype_to_numpy(tensor.data_type)).reshape(shape)
        )
    else:
        copy = _header(tensor) if source is not None else TensorProto()
        if source is None:
            copy.CopyFrom(tensor)
        constant = gs.Constant(tensor.name, StoredValues(copy, source))
    if tensor.doc_string or tensor.metadata_props:
        constant.shell = _header(tensor)
    return constant


def constant_from_sparse(tensor: onnx.SparseTensorProto) -> gs.Constant:
    """Wrap a sparse initializer; it stays sparse in the file until a pass replaces it."""
    copy = onnx.SparseTensorProto()
    copy.CopyFrom(tensor)
    if copy.indices.data_type != TensorProto.INT64:
        raise _bad_indices(copy)
    for part in (copy.values, copy.indices):
        _check_count(part, tuple(part.dims), None, part.raw_data if part.HasField("raw_data") else None)
    if any(dim < 0 for dim in copy.dims):
        raise _bad_shape(tensor.values.name, tuple(copy.dims))
    _check_indices(copy)
    return gs.Constant(tensor.values.name, StoredValues(copy))


def proto_from_constant(constant: gs.Constant) -> TensorProto | onnx.SparseTensorProto:
    """Return the constant as a proto under its present name; external files are read in."""
    stored = constant._values
    if isinstance(stored, StoredValues) and stored.source is None:
        proto = type(stored.tensor)()
        proto.CopyFrom(stored.tensor)
        named = proto.values if isinstance(proto, onnx.SparseTensorProto) else proto
        if named.name != constant.name:
            named.name = constant.name
        return proto
    array = None if isinstance(stored, LazyValues) else array_of(constant)
    if array is not None and array.dtype.kind in "OUS":
        proto = numpy_helper.from_array(array.astype(object))
    else:
        number = stored_type(constant)
        proto = TensorProto(dims=constant.shape, data_type=number, raw_data=packed_bytes(constant).tobytes())
    return with_shell(proto, constant)


def with_shell(proto: TensorProto, constant: gs.Constant) -> TensorProto:
    """Give a tensor proto its constant's name, doc string and metadata."""
    if constant.name:
        proto.name = constant.name
    shell = getattr(constant, "shell", None)
    if shell is not None:
        if shell.doc_string:
            proto.doc_string = shell.doc_string
        proto.metadata_props.extend(shell.metadata_props)
    return proto


def packed_bytes(constant: gs.Constant) -> npt.NDArray[np.uint8]:
    """Return a dense constant's numbers as a file holds them: little-endian, sub-byte types packed, one flat run."""
    stored = constant._values
    if isinstance(stored, StoredValues) and isinstance(stored.tensor, TensorProto):
        if stored.source is not None:
            return stored.source.read()
        if stored.tensor.HasField("raw_data"):
            return np.frombuffer(stored.tensor.raw_data, dtype=np.uint8)
    array = array_of(constant)
    if stored_type(constant) in _PACKED or array.dtype.byteorder == ">":
        return np.frombuffer(numpy_helper.from_array(array).raw_data, dtype=np.uint8)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _header(tensor: TensorProto) -> TensorProto:
    """Copy what a tensor says about itself, without its numbers and where they lie."""
    copy = TensorProto(
        name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, doc_string=tensor.doc_string
    )
    copy.metadata_props.extend(tensor.metadata_props)
    return copy


def _with_raw(tensor: TensorProto, raw: bytes) -> TensorProto:
    whole = _header(tensor)
    whole.raw_data = raw
    return whole


def _check_count(
    tensor: TensorProto, shape: tuple[int, ...], source: FileRange | None, raw: bytes | None
) -> None:
    """Refuse a tensor that does not hold exactly what its shape says: reading it later would fail far from here."""
    number = tensor.data_type
    if tensor.HasField("segment"):
        raise InvalidModel(
            f"the tensor {tensor.name!r} is one segment of a larger one, a form no runtime reads; expected it whole; "
            "export the model again"
        )
    if number == TensorProto.UNDEFINED:
        raise InvalidModel(
            f"the tensor {tensor.name!r} has no element type; the file is damaged; export it again"
        )
    if any(dim < 0 for dim in shape):
        raise _bad_shape(tensor.name, shape)
    needed, unit = tensor_bytes(number, shape), "bytes"
    if source is not None:
        have = source.length
    elif raw is not None:
        have = len(raw)
    else:
        needed, unit = _entries(number, shape), "entries"
        have = len(getattr(tensor, onnx.helper.tensor_dtype_to_field(number)))
    if number == TensorProto.STRING and unit == "bytes":
        raise InvalidModel(
            f"the text tensor {tensor.name!r} is stored as raw bytes, which ONNX does not allow; export the model again"
        )
    if have != needed:
        raise InvalidModel(
            f"the tensor {tensor.name!r} of shape {list(shape)} needs {needed} {unit} but {have} are stored; "
            "the file is truncated or belongs to another model; fetch or export it again"
        )


def _check_indices(tensor: onnx.SparseTensorProto) -> None:
    """Refuse a sparse tensor whose indices, one number or one row for each value, leave its shape."""
    indices = np.asarray(_dense(tensor.indices), dtype=np.int64)
    rows = indices[:, np.newaxis] if indices.ndim == 1 else indices
    limits = tuple(tensor.dims) if indices.ndim == 2 else (math.prod(tensor.dims),)
    fits = rows.shape == (math.prod(tensor.values.dims), len(limits))
    if not fits or any(((rows[:, i] < 0) | (rows[:, i] >= limit)).any() for i, limit in enumerate(limits)):
        raise _bad_indices(tensor)


def _bad_indices(tensor: onnx.SparseTensorProto) -> InvalidModel:
    return InvalidModel(
        f"the sparse tensor {tensor.values.name!r} of shape {list(tensor.dims)} has indices that do not fit it; "
        "expected one position inside the shape for each value; the file is damaged; export it again"
    )


def _entries(number: int, shape: tuple[int, ...]) -> int:
    """Return how many entries the typed field of a tensor holds."""
    onnx_dtype_to_numpy(number)  # refuses unknown types
    count = math.prod(shape)
    if number in _COMPLEX:
        return 2 * count
    return -(-count // _PACKED.get(number, (0, 1))[1])


def _bad_shape(name: str, shape: tuple[int, ...]) -> InvalidModel:
    return InvalidModel(
        f"the tensor {name!r} has the shape {list(shape)}; expected sizes of zero or more; the file is damaged; "
        "export it again"
    )


def _dense(tensor: TensorProto) -> Array:
    return np.asarray(numpy_helper.to_array(tensor))


def _strings(tensor: TensorProto) -> Array:
    """Read a text tensor; entries that are not UTF-8 stay bytes."""
    texts = np.empty(len(tensor.string_data), dtype=object)
    for index, raw in enumerate(tensor.string_data):
        texts[index] = text_of(raw)
    return texts.reshape(tuple(tensor.dims))


def text_of(raw: bytes) -> str | bytes:
    """Decode UTF-8; bytes that are something else stay bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def utf8(text: str | bytes) -> str:
    """Return text that protobuf could decode; it hands out the bytes of any other.

    Raises:
        InvalidModel: the text is not UTF-8.
    """
    if isinstance(text, bytes):
        raise InvalidModel(
            f"the model holds the text {text[:40]!r}, which is not UTF-8 as ONNX requires; the file is damaged; "
            "export it again"
        )
    return text


def _densify(tensor: onnx.SparseTensorProto) -> Array:
    values = _dense(tensor.values)
    indices = _dense(tensor.indices)
    dense = np.zeros(tuple(tensor.dims), dtype=values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense
