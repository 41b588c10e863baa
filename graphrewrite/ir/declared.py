"""What a model declares about its tensors: element type, sizes, denotations, notes.

A declaration is kept as it came, in `tensor.info`, and written back unless a pass changed the tensor's type or sizes;
then a new one is made from `tensor.dtype` and `tensor.shape`.
"""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from onnx import ValueInfoProto

from graphrewrite.ir.values import numpy_dtype_to_onnx, onnx_dtype_to_numpy, utf8


def describe(tensor: gs.Tensor, info: ValueInfoProto) -> None:
    """Attach declared type and shape to a tensor, keeping the declaration for an exact write-back."""
    kept = ValueInfoProto()
    kept.CopyFrom(info)
    utf8(kept.doc_string)
    tensor.info = kept
    if isinstance(tensor, gs.Variable):
        tensor.dtype, tensor.shape, tensor.type = read_info(kept)


def read_info(info: ValueInfoProto) -> tuple[np.dtype[np.generic] | None, list[int | str | None] | None, str]:
    """Return (dtype, shape, kind) of a declaration; a dimension is an int, a symbol, or None."""
    kind = info.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        return None, None, kind
    tensor_type = info.type.tensor_type
    dtype = onnx_dtype_to_numpy(tensor_type.elem_type) if tensor_type.elem_type else None
    if not tensor_type.HasField("shape"):
        return dtype, None, kind
    shape: list[int | str | None] = []
    for dim in tensor_type.shape.dim:
        which = dim.WhichOneof("value")
        shape.append(
            dim.dim_value if which == "dim_value" else utf8(dim.dim_param) if which == "dim_param" else None
        )
    return dtype, shape, kind


def known_info(tensor: gs.Tensor) -> ValueInfoProto | None:
    """Return what there is to say of a tensor inside a graph; nothing when a pass forgot its type."""
    info = (
        info_of(tensor)
        if getattr(tensor, "info", None) is not None or isinstance(tensor, gs.Variable)
        else None
    )
    return (
        info
        if info is not None and (info.HasField("type") or info.doc_string or info.metadata_props)
        else None
    )


def info_of(tensor: gs.Tensor, declared: ValueInfoProto | None = None) -> ValueInfoProto:
    """Return a tensor's declaration: the very one it came with (or `declared`) unless a pass changed its type since."""
    known: ValueInfoProto | None = getattr(tensor, "info", None)
    kept = known if declared is None else declared
    if kept is not None and is_unchanged(tensor):
        return _renamed(kept, tensor.name)
    info = ValueInfoProto(name=tensor.name)
    if known is not None:
        if known.doc_string:
            info.doc_string = known.doc_string
        info.metadata_props.extend(known.metadata_props)
    if tensor.dtype is not None:
        number = tensor.dtype if isinstance(tensor.dtype, int) else numpy_dtype_to_onnx(tensor.dtype)
        info.type.tensor_type.elem_type = number
        if tensor.shape is not None:
            info.type.tensor_type.shape.SetInParent()
            for size in tensor.shape:
                dim = info.type.tensor_type.shape.dim.add()
                if isinstance(size, str):
                    dim.dim_param = size
                elif size is not None:
                    dim.dim_value = int(size)
    return info


def is_unchanged(tensor: gs.Tensor) -> bool:
    """Tell whether a tensor is still what its declaration says (nothing, when it has none)."""
    info: ValueInfoProto | None = getattr(tensor, "info", None)
    if isinstance(tensor, gs.Constant):
        if info is None:
            return False
        dtype, dims, _ = read_info(info)
        sizes = [
            size if isinstance(size, int) else own
            for size, own in zip(dims or (), tensor.shape, strict=False)
        ]
        return dtype == tensor.dtype and (
            dims is None or (len(dims) == len(tensor.shape) and sizes == list(tensor.shape))
        )
    shape = None if tensor.shape is None else list(tensor.shape)
    said = (None, None, "tensor_type") if info is None else read_info(info)
    return said == (tensor.dtype, shape, tensor.type)


def item_of(tensor: gs.Tensor) -> tuple[np.dtype[np.generic], list[int | str | None]] | None:
    """Return type and dimensions of what a list (or optional) of tensors is declared to hold, None for all else."""
    info: ValueInfoProto | None = getattr(tensor, "info", None)
    if info is None or info.type.WhichOneof("value") not in ("sequence_type", "optional_type"):
        return None
    held = ValueInfoProto()
    held.type.CopyFrom(getattr(info.type, info.type.WhichOneof("value")).elem_type)
    dtype, shape, kind = read_info(held)
    return (dtype, shape) if kind == "tensor_type" and dtype is not None and shape is not None else None


def declare_list(tensor: gs.Variable, dtype: np.dtype[np.generic], sizes: Sequence[int]) -> None:
    """Declare a tensor to be a list of tensors of this type and these sizes."""
    info = ValueInfoProto(name=tensor.name)
    held = info.type.sequence_type.elem_type.tensor_type
    held.elem_type = numpy_dtype_to_onnx(dtype)
    held.shape.SetInParent()
    for size in sizes:
        held.shape.dim.add().dim_value = size
    describe(tensor, info)


def forget_item_sizes(tensor: gs.Tensor) -> None:
    """Keep of a declared list (or optional) of tensors that it is one, but not the sizes of what it holds."""
    info: ValueInfoProto | None = getattr(tensor, "info", None)
    if info is None:
        return
    copy = ValueInfoProto()
    copy.CopyFrom(info)
    kind = copy.type
    while (name := kind.WhichOneof("value")) in ("sequence_type", "optional_type"):
        kind = getattr(kind, name).elem_type
    kind.tensor_type.ClearField("shape")
    tensor.info = copy


def _renamed(info: ValueInfoProto, name: str) -> ValueInfoProto:
    if info.name == name:
        return info
    copy = ValueInfoProto()
    copy.CopyFrom(info)
    copy.name = name
    return copy
