"""Element types and numbers between ONNX, numpy and torch, bit for bit.

numpy has no bfloat16 and no 8-bit floats of its own; arrays of `ml_dtypes` stand in for them, and their bits are
handed over through an integer type of the same width. Integers below a byte are held one to a byte.
"""

import warnings
from typing import TypeAlias

import ml_dtypes
import numpy as np
import onnx
import torch

from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Array

# What goes into a model and comes out of it: an array, a sequence of such, or an optional that is empty.
Fed: TypeAlias = "Array | list[Fed] | None"
Held: TypeAlias = "torch.Tensor | list[Held] | None"

_T = onnx.TensorProto
TORCH_TYPES: dict[int, torch.dtype] = {
    _T.FLOAT: torch.float32,
    _T.UINT8: torch.uint8,
    _T.INT8: torch.int8,
    _T.UINT16: torch.uint16,
    _T.INT16: torch.int16,
    _T.INT32: torch.int32,
    _T.INT64: torch.int64,
    _T.BOOL: torch.bool,
    _T.FLOAT16: torch.float16,
    _T.DOUBLE: torch.float64,
    _T.UINT32: torch.uint32,
    _T.UINT64: torch.uint64,
    _T.COMPLEX64: torch.complex64,
    _T.COMPLEX128: torch.complex128,
    _T.BFLOAT16: torch.bfloat16,
    _T.FLOAT8E4M3FN: torch.float8_e4m3fn,
    _T.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    _T.FLOAT8E5M2: torch.float8_e5m2,
    _T.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    _T.FLOAT8E8M0: torch.float8_e8m0fnu,
}
# Types that numpy knows through ml_dtypes only, and the integers that carry their bits.
_BY_BITS: dict[np.dtype[np.generic], tuple[torch.dtype, type[np.generic]]] = {
    np.dtype(ml_dtypes.bfloat16): (torch.bfloat16, np.int16),
    np.dtype(ml_dtypes.float8_e4m3fn): (torch.float8_e4m3fn, np.uint8),
    np.dtype(ml_dtypes.float8_e4m3fnuz): (torch.float8_e4m3fnuz, np.uint8),
    np.dtype(ml_dtypes.float8_e5m2): (torch.float8_e5m2, np.uint8),
    np.dtype(ml_dtypes.float8_e5m2fnuz): (torch.float8_e5m2fnuz, np.uint8),
    np.dtype(ml_dtypes.float8_e8m0fnu): (torch.float8_e8m0fnu, np.uint8),
}
_WIDENED: dict[np.dtype[np.generic], type[np.generic]] = {
    np.dtype(getattr(ml_dtypes, name)): to
    for name, to in (("int4", np.int8), ("uint4", np.uint8), ("int2", np.int8), ("uint2", np.uint8))
    if hasattr(ml_dtypes, name)
}


def torch_type(number: int) -> torch.dtype:
    """Return torch's name of an ONNX element type.

    Raises:
        UnsupportedOp: torch has no such type.
    """
    try:
        return TORCH_TYPES[number]
    except KeyError:
        raise UnsupportedOp(
            f"torch has no element type {onnx.TensorProto.DataType.Name(number)}; expected one of "
            "floats, integers of whole bytes, bools or complex numbers; leave this node out of the bridge"
        ) from None


def tensor_of(array: Array) -> torch.Tensor:
    """Return a tensor over the same memory where torch can hold the type; nobody may write into it."""
    array = np.asarray(array)
    if array.dtype in _WIDENED:
        array = array.astype(_WIDENED[array.dtype])
    if array.dtype.kind in "OUS":
        raise UnsupportedOp(
            "torch holds no text; expected numbers; leave nodes that work on strings out of the bridge"
        )
    by_bits = _BY_BITS.get(array.dtype)
    if by_bits is not None:
        array = np.ascontiguousarray(array).reshape(array.shape).view(by_bits[1])
    elif array.dtype.kind == "V" or array.dtype.name.startswith(("float4_", "float6_", "float8_")):
        raise UnsupportedOp(
            f"torch has no element type {array.dtype.name}; expected a type of whole bytes; leave this tensor out"
        )
    if not array.dtype.isnative or any(step < 0 for step in array.strides):
        array = np.array(array, dtype=array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(array if array.ndim else array.reshape(1)).reshape(array.shape)
    return tensor.view(by_bits[0]) if by_bits is not None else tensor


def array_from(tensor: torch.Tensor) -> Array:
    """Return a tensor's numbers as an array of the matching type, without a copy where they are on the CPU."""
    found = tensor.detach().cpu().contiguous()
    for dtype, (torch_dtype, carrier) in _BY_BITS.items():
        if found.dtype == torch_dtype:
            bits = found.view(torch.int16 if carrier is np.int16 else torch.uint8)
            carried: Array = bits.numpy().view(carrier).view(dtype)
            return carried
    plain: Array = found.numpy()
    return plain


def value_of(fed: Fed, device: torch.device) -> Held:
    """Return what a model is fed as torch holds it: tensors, lists of them, None."""
    if fed is None:
        return None
    if isinstance(fed, list):
        return [value_of(entry, device) for entry in fed]
    return tensor_of(np.asarray(fed)).to(device)


def fed_from(held: Held) -> Fed:
    """Return arrays for tensors, in lists as they are held."""
    if held is None:
        return None
    return [fed_from(entry) for entry in held] if isinstance(held, (list, tuple)) else array_from(held)


def as_declared(fed: Fed, dtype: np.dtype[np.generic] | None) -> Fed:
    """Return integers that were held one to a byte in the narrower type a model declares; others as they are."""
    if not isinstance(fed, np.ndarray) or dtype is None or _WIDENED.get(np.dtype(dtype)) != fed.dtype:
        return fed
    return fed.astype(dtype)
