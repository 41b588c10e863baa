"""Where a tensor's numbers live: in memory, in a proto field, or in a file beside the model.

Arrays are read-only and shared between clones; a pass replaces an array, it never writes into one. Numbers in
external files are memory-mapped on first use, so a model larger than memory can be rewritten where it is touched.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphrewrite.errors import InvalidModel

Array = npt.NDArray[np.generic]

# Below this many bytes a tensor keeps its proto as it came: copying it costs less than an array object.
_SMALL = 256


@dataclass(frozen=True)
class FileRange:
    """A run of bytes in an external-data file: `[offset, offset + length)` of `path`."""

    path: Path
    offset: int
    length: int


class StoredValues(LazyValues):  # type: ignore[misc]
    """Numbers still in the form they were loaded in: a tensor proto, or a range of an external file.

    Exporting an untouched tensor writes the very same proto back, so typed fields, odd dtypes and sparse layouts
    survive a round trip bit for bit.
    """

    def __init__(self, tensor: onnx.TensorProto | onnx.SparseTensorProto, source: FileRange | None = None) -> None:
        self.tensor = tensor
        self.source = source
        stored = tensor.values if isinstance(tensor, onnx.SparseTensorProto) else tensor
        self.shape = tuple(tensor.dims)
        self.dtype = onnx_dtype_to_numpy(stored.data_type)
        self.nbytes = tensor_bytes(stored.data_type, self.shape)
        self._array: Array | None = None

    def load(self) -> Array:
        """Return the numbers as a read-only array (a memory map when they lie in an external file)."""
        if self._array is None:
            array = self._read()
            array.flags.writeable = False
            self._array = array
        return self._array

    def _read(self) -> Array:
        if isinstance(self.tensor, onnx.SparseTensorProto):
            return _densify(self.tensor)
        if self.source is None:
            return np.asarray(numpy_helper.to_array(self.tensor))
        plain = np.dtype(self.dtype)
        count = int(np.prod(self.shape, dtype=np.int64))
        if self.nbytes == count * plain.itemsize and count > 0 and self.source.length >= self.nbytes:
            mapped = np.memmap(self.source.path, dtype=np.uint8, mode="r", offset=self.source.offset, shape=(self.nbytes,))
            return np.asarray(mapped).view(plain).reshape(self.shape)
        whole = onnx.TensorProto()  # sub-byte types are packed: let onnx unpack them
        whole.CopyFrom(self.tensor)
        whole.ClearField("external_data")
        whole.data_location = onnx.TensorProto.DEFAULT
        with open(self.source.path, "rb") as file:
            file.seek(self.source.offset)
            whole.raw_data = file.read(self.source.length)
        return np.asarray(numpy_helper.to_array(whole))


def array_of(constant: gs.Constant) -> Array:
    """Return a constant's numbers, read-only, without giving up the form they are stored in."""
    stored = constant._values
    if isinstance(stored, LazyValues):
        return np.asarray(stored.load())
    return np.asarray(stored)


def constant_value(tensor: gs.Tensor) -> Array | None:
    """Return the numbers of a tensor that cannot change between runs, or None.

    Looks in both homes: initializers and outputs of `Constant` nodes (all attribute forms).
    """
    if isinstance(tensor, gs.Constant):
        return array_of(tensor)
    if len(tensor.inputs) != 1 or tensor.inputs[0].op != "Constant" or tensor.inputs[0].domain not in ("", None, "ai.onnx"):
        return None
    for name, value in tensor.inputs[0].attrs.items():
        if isinstance(value, gs.Constant):
            return array_of(value) if name in ("value", "sparse_value") else None
        if name in ("value_float", "value_floats"):
            return np.asarray(value, dtype=np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, dtype=np.int64)
        if name in ("value_string", "value_strings"):
            return np.asarray(value, dtype=object)
    return None


def onnx_dtype_to_numpy(data_type: int) -> np.dtype[np.generic]:
    """Map an ONNX element type to numpy (ml_dtypes for bf16, fp8 and the sub-byte types)."""
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type))
    except KeyError:
        raise InvalidModel(
            f"a tensor has the element type number {data_type}, which this onnx release does not know; "
            "the file is damaged or newer than the installed onnx package; re-export it or update onnx"
        ) from None


def numpy_dtype_to_onnx(dtype: np.dtype[np.generic]) -> int:
    """Map a numpy (or ml_dtypes) element type to the ONNX number."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


_SUB_BYTE_BITS = {
    getattr(onnx.TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(onnx.TensorProto, name)
}


def tensor_bytes(data_type: int, shape: tuple[int, ...]) -> int:
    """Return the bytes a tensor takes in a file (sub-byte types are packed); strings count as zero."""
    count = int(np.prod(shape, dtype=np.int64))
    if data_type in _SUB_BYTE_BITS:
        return (count * _SUB_BYTE_BITS[data_type] + 7) // 8
    if data_type == onnx.TensorProto.STRING:
        return 0
    return count * onnx_dtype_to_numpy(data_type).itemsize


def constant_from_proto(tensor: onnx.TensorProto, source: FileRange | None = None) -> gs.Constant:
    """Wrap a stored tensor as a graph constant; raw bytes become an array at once so that the file's proto can go."""
    if source is None and tensor.HasField("raw_data") and len(tensor.raw_data) > _SMALL and not tensor.metadata_props:
        dtype = onnx_dtype_to_numpy(tensor.data_type)
        shape = tuple(tensor.dims)
        raw = tensor.raw_data
        count = int(np.prod(shape, dtype=np.int64))
        if tensor.data_type not in _SUB_BYTE_BITS and len(raw) == count * dtype.itemsize:
            constant = gs.Constant(tensor.name, np.frombuffer(raw, dtype=dtype).reshape(shape))
            constant.doc_string = tensor.doc_string
            return constant
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    _check_length(copy, source)
    constant = gs.Constant(tensor.name, StoredValues(copy, source))
    constant.doc_string = ""
    return constant


def constant_from_sparse(tensor: onnx.SparseTensorProto) -> gs.Constant:
    """Wrap a sparse initializer; it stays sparse in the file until a pass replaces it."""
    copy = onnx.SparseTensorProto()
    copy.CopyFrom(tensor)
    constant = gs.Constant(tensor.values.name, StoredValues(copy))
    constant.doc_string = ""
    return constant


def proto_from_constant(constant: gs.Constant) -> onnx.TensorProto | onnx.SparseTensorProto:
    """Return the constant as a proto under its present name; external files are read in."""
    stored = constant._values
    if isinstance(stored, StoredValues) and stored.source is None:
        proto = type(stored.tensor)()
        proto.CopyFrom(stored.tensor)
        named = proto.values if isinstance(proto, onnx.SparseTensorProto) else proto
        if named.name != constant.name:
            named.name = constant.name
        return proto
    proto = numpy_helper.from_array(np.asarray(array_of(constant)), constant.name or None)
    doc = getattr(constant, "doc_string", "")
    if isinstance(stored, StoredValues):
        doc = stored.tensor.doc_string
    if doc:
        proto.doc_string = doc
    return proto


def _check_length(tensor: onnx.TensorProto, source: FileRange | None) -> None:
    if tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise InvalidModel(f"the tensor {tensor.name!r} has no element type; the file is damaged; export it again")
    needed = tensor_bytes(tensor.data_type, tuple(tensor.dims))
    have = source.length if source is not None else len(tensor.raw_data) if tensor.HasField("raw_data") else needed
    if have < needed:
        raise InvalidModel(
            f"the tensor {tensor.name!r} of shape {list(tensor.dims)} needs {needed} bytes but only {have} are stored; "
            "the file is truncated; fetch or export it again"
        )


def _densify(tensor: onnx.SparseTensorProto) -> Array:
    values = numpy_helper.to_array(tensor.values)
    indices = numpy_helper.to_array(tensor.indices)
    dense = np.zeros(tuple(tensor.dims), dtype=values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense
