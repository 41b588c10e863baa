"""Making given arrays fit a model's inputs: names, ranks, fixed sizes and element types, or a clear refusal.

Axis 0 holds the samples, so its size is free even where the model's batch is fixed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.data.source import Arrays, DataSource
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Array, Model

LABELS = ("labels", "y")


def fit(arrays: Mapping[str, npt.ArrayLike], model: Model, what: str) -> dict[str, Array]:
    """Return the arrays under the model's input names, in its element types.

    Numbers are converted where nothing is lost but digits: floats to other floats, integers to floats, and to integers
    what is whole and in range. `what` names the data in messages.

    Raises:
        InvalidData: with the input's name, what the model expects and what was given.
    """
    expected = {tensor.name: tensor for tensor in model.inputs}
    missing = [name for name in expected if name not in arrays]
    unknown = [name for name in arrays if name not in expected]
    if missing or unknown:
        wrong = [f"lacks the input {', '.join(map(repr, missing))}"] if missing else []
        wrong += [f"has {', '.join(map(repr, unknown))}, which the model does not take"] if unknown else []
        raise InvalidData(
            f"{what} {' and '.join(wrong)}; expected {signature(model)} (and labels under {' or '.join(LABELS)}); "
            "rename the arrays"
        )
    fitted = {name: fit_array(arrays[name], tensor, what) for name, tensor in expected.items()}
    _same_symbols(fitted, expected, what)
    return fitted


def fit_array(values: npt.ArrayLike, tensor: gs.Variable, what: str) -> Array:
    """Return an array of samples that fits one input."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidData(
            f"{what} has values for the input {tensor.name!r} that form no array ({error}); expected one block of "
            f"numbers of shape {shape_text(tensor)}; pad or crop the samples to one size"
        ) from error
    _check_shape(array.shape, tensor, what)
    return _convert(array, tensor, what)


def _check_shape(shape: tuple[int, ...], tensor: gs.Variable, what: str) -> None:
    if tensor.shape is None:
        return
    declared = tensor.shape
    differs = len(shape) != len(declared) or any(
        isinstance(want, (int, np.integer)) and want >= 0 and want != size
        for want, size in zip(declared[1:], shape[1:], strict=True)
    )
    if differs or not shape:
        raise InvalidData(
            f"{what} has shape {list(shape)} for the input {tensor.name!r}; expected {shape_text(tensor)}, samples "
            "first; reshape, crop or transpose the array"
        )


def _convert(array: Array, tensor: gs.Variable, what: str) -> Array:
    if tensor.dtype is None:
        return array
    dtype = np.dtype(tensor.dtype)
    if array.dtype == dtype:
        return array
    if dtype.kind in "OUS":
        if array.dtype.kind in "OUS":
            return array.astype(object)
        raise _wrong_type(array, dtype, tensor, what, "text is needed")
    if array.dtype.kind == "V" and array.dtype.itemsize == dtype.itemsize and array.dtype.names is None:
        return array.view(dtype)  # numpy files bfloat16 and its like as bare bytes
    if array.dtype.kind in "OUSMmV" or (array.dtype.kind == "c" and dtype.kind != "c"):
        raise _wrong_type(array, dtype, tensor, what, "it does not hold real numbers")
    if dtype.kind in "iub":
        return _to_integers(array, dtype, tensor, what)
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if (
        array.size
        and array.dtype.kind in "fiu"
        and not np.array_equal(np.isfinite(array), _finite(converted))
    ):
        raise _wrong_type(array, dtype, tensor, what, "some of the numbers are too large for it")
    # the sub-byte integers, which numpy knows nothing of, wrap around silently
    if "int" in dtype.name and not np.array_equal(converted.astype(np.float64), array):
        raise _wrong_type(array, dtype, tensor, what, "some of the numbers are not whole or out of its range")
    return converted


def _finite(array: Array) -> npt.NDArray[np.bool_]:
    return np.isfinite(array if array.dtype.kind in "fc" else array.astype(np.float64))


def _to_integers(array: Array, dtype: np.dtype[np.generic], tensor: gs.Variable, what: str) -> Array:
    is_whole = array.dtype.kind != "f" or (np.isfinite(array).all() and np.array_equal(array, np.rint(array)))
    if not is_whole:
        raise _wrong_type(array, dtype, tensor, what, "some of the numbers are not whole")
    bits = 8 * dtype.itemsize - (dtype.kind == "i")
    low, high = (0, 1) if dtype.kind == "b" else (-(2**bits) if dtype.kind == "i" else 0, 2**bits - 1)
    if array.size and array.dtype.kind != "b" and (int(array.min()) < low or int(array.max()) > high):
        raise _wrong_type(array, dtype, tensor, what, f"it holds {array.min()} to {array.max()}")
    return array.astype(dtype)


def _wrong_type(
    array: Array, dtype: np.dtype[np.generic], tensor: gs.Variable, what: str, why: str
) -> InvalidData:
    return InvalidData(
        f"{what} has {array.dtype} for the input {tensor.name!r}; expected {dtype} and the values cannot be converted "
        f"({why}); convert the array before saving it"
    )


def _same_symbols(arrays: Mapping[str, Array], expected: Mapping[str, gs.Variable], what: str) -> None:
    """Check that a symbol has one size wherever it occurs; axis 0, the samples, must agree whatever it is called."""
    sizes: dict[object, tuple[str, int]] = {}
    for name, tensor in expected.items():
        shape = arrays[name].shape
        symbols: list[object] = ["samples", *(tensor.shape[1:] if tensor.shape is not None else [])]
        for symbol, size in zip(symbols, shape, strict=False):
            if isinstance(symbol, str) and symbol and sizes.setdefault(symbol, (name, size))[1] != size:
                other, there = sizes[symbol]
                raise InvalidData(
                    f"{what} has {symbol} = {there} in the input {other!r} but {size} in {name!r}; expected one size; "
                    "check that the arrays belong together"
                )


def only_input(model: Model, what: str) -> gs.Variable:
    """Return the input of a model that has just one.

    Raises:
        InvalidData: it has several or none, so that nameless data cannot be told apart.
    """
    inputs = model.inputs
    if len(inputs) != 1:
        raise InvalidData(
            f"{what} does not say which input it is for, and the model has {len(inputs)}: {signature(model)}; expected "
            "data by input name; give an .npz file with one array for each input"
        )
    return inputs[0]


def signature(model: Model) -> str:
    """Return the model's inputs on one line: names, element types, shapes."""
    entries = (
        f"{tensor.name!r} {np.dtype(tensor.dtype) if tensor.dtype is not None else ''}{shape_text(tensor)}"
        for tensor in model.inputs
    )
    return ", ".join(entries) or "no inputs"


def shape_text(tensor: gs.Variable) -> str:
    """Return a declared shape for a message; an unknown size is a question mark."""
    if tensor.shape is None:
        return "[...]"
    return "[" + ", ".join("?" if dim is None or dim == "" else str(dim) for dim in tensor.shape) + "]"


@dataclass(frozen=True)
class FittedSource:
    """Another source whose every batch is made to fit the model before it is handed on."""

    source: DataSource
    model: Model
    what: str

    def __len__(self) -> int:
        return len(self.source)

    @property
    def labels(self) -> npt.NDArray[np.generic] | None:
        """The labels of the source."""
        return self.source.labels

    def batches(self, size: int, seed: int = 0) -> Iterator[Arrays]:
        """Yield the source's batches, converted.

        Raises:
            InvalidData: a batch does not fit.
        """
        for batch in self.source.batches(size, seed):
            yield fit(batch, self.model, self.what)


def as_labels(values: npt.ArrayLike, samples: int, what: str) -> Array:
    """Return labels as an array with one entry per sample.

    Raises:
        InvalidData: there are more or fewer labels than samples.
    """
    labels = np.asarray(values)
    if labels.ndim == 0 or len(labels) != samples:
        found = len(labels) if labels.ndim else "a single number as"
        raise InvalidData(
            f"{what} has {found} labels for {samples} samples; expected one each; check how it was saved"
        )
    return labels


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return names for a message, a few of many."""
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
