"""Data named on a command line: an .npz file, a folder of arrays or images, or a Python function.

Nothing is ever unpickled: a data file from elsewhere must not be able to run code. Only `module:function` runs code,
and only because it was asked to.
"""

import importlib
import inspect
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from graphrewrite.data.fit import LABELS, FittedSource, as_labels, fit, only_input, signature
from graphrewrite.data.folder import ARRAY_SUFFIX, folder_source
from graphrewrite.data.images import IMAGE_SUFFIXES, image_source
from graphrewrite.data.source import ArraySource, DataSource
from graphrewrite.errors import GraphRewriteError, InvalidData
from graphrewrite.ir import Array, Model

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_FORMS = "an .npz file, an .npy file, a folder of .npy files or images, or module:function"


def load(spec: str | os.PathLike[str], model: Model) -> DataSource:
    """Open the data that `spec` names and make it fit the model's inputs.

    - `data.npz`: one array per input name, samples on axis 0; for a model with one input also a single unnamed array.
      Labels may lie under `labels` or `y`.
    - `data.npy`: the samples of a model with one input.
    - a folder of `.npy` files, each a sample or a batch; with several inputs a subfolder for each input name. Labels
      may lie in `labels.npy` or `y.npy`.
    - a folder of images, or of one subfolder per class, see `graphrewrite.data.images`.
    - `module:function`, called with the model if it takes an argument; returns a DataSource, a mapping, an array, or a
      pair of inputs and labels.

    Raises:
        InvalidData: the data is missing, unreadable or does not fit; the message names the input.
        MissingExtra: images need Pillow.
    """
    text = os.fspath(spec)
    path = Path(text)
    if path.is_dir():
        return _folder(path, model)
    if path.is_file():
        return _file(path, model)
    if _FUNCTION.fullmatch(text):
        return _from_function(text, model)
    raise InvalidData(f"there is no data at {text!r}; expected {_FORMS}; check the path")


def _folder(path: Path, model: Model) -> DataSource:
    kinds = {file.suffix.lower() for file in path.rglob("*") if file.is_file()}
    has_images, has_arrays = bool(kinds & IMAGE_SUFFIXES), ARRAY_SUFFIX in kinds
    if has_images and has_arrays:
        raise InvalidData(
            f"the folder {str(path)!r} holds both images and .npy files; expected one kind; move them apart"
        )
    if has_images:
        return image_source(path, model)
    if has_arrays:
        return folder_source(path, model)
    found = ", ".join(sorted(kinds - {""})) or "nothing"
    raise InvalidData(
        f"the folder {str(path)!r} holds no data ({found}); expected .npy files or images "
        f"({', '.join(sorted(IMAGE_SUFFIXES))}); check the path"
    )


def _file(path: Path, model: Model) -> DataSource:
    what = repr(str(path))
    if path.suffix.lower() not in (".npz", ARRAY_SUFFIX):
        raise InvalidData(
            f"{what} is no data file of a known kind; expected {_FORMS}; save it with numpy.savez"
        )
    with _readable(path):
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            arrays: dict[str, Array] = {"arr_0": stored}
        else:
            with stored:
                arrays = {name: stored[name] for name in stored.files}
    return _from_arrays(arrays, model, what)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the many ways in which numpy fails on a bad file into one."""
    try:
        yield
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        objects = "pickle" in str(error) or "Object arrays" in str(error)
        why = (
            "it holds Python objects, which are never loaded, or is no numpy file"
            if objects
            else " ".join(str(error).split())
        )
        raise InvalidData(
            f"{str(path)!r} cannot be read ({why}); expected arrays of numbers; save them again with numpy"
        ) from error
    except MemoryError as error:
        raise InvalidData(
            f"{str(path)!r} does not fit into memory; expected a few hundred samples; use a folder of .npy files, "
            "which is read batch by batch"
        ) from error


def _from_arrays(arrays: Mapping[str, npt.ArrayLike], model: Model, what: str) -> ArraySource:
    """Sort arrays into inputs and labels; an unnamed one belongs to the only input there is."""
    names = {tensor.name for tensor in model.inputs}
    given = dict(arrays)
    labels = None
    for name in LABELS:
        if name in given and name not in names:
            labels = given.pop(name)
            break
    if set(given) == {"arr_0"} and "arr_0" not in names:
        given = {only_input(model, what).name: given["arr_0"]}
    fitted = fit(given, model, what)
    if not fitted:
        raise InvalidData(f"the model has no inputs, so {what} is of no use to it; leave the data out")
    samples = len(next(iter(fitted.values())))
    if not samples:
        raise InvalidData(f"{what} holds no samples; expected at least one on axis 0; check how it was saved")
    return ArraySource(fitted, None if labels is None else as_labels(labels, samples, what))


def _from_function(text: str, model: Model) -> DataSource:
    module_name, _, path = text.partition(":")
    found: object = _import(module_name, text)
    for part in path.split("."):
        if not hasattr(found, part):
            raise InvalidData(
                f"the module {module_name!r} has no {path!r}; expected a function; check its name"
            )
        found = getattr(found, part)
    if not callable(found):
        raise InvalidData(
            f"{text} is a {type(found).__name__}; expected a function that returns data; name a function"
        )
    try:
        value: object = found(model) if _takes_model(found) else found()
    except GraphRewriteError:
        raise
    except Exception as error:
        raise InvalidData(
            f"{text} failed ({type(error).__name__}: {error}); expected it to return a DataSource, a mapping, an array "
            "or (inputs, labels); mend the function"
        ) from error
    return _from_value(value, model, f"what {text} returned")


def _import(name: str, text: str) -> object:
    # A script of the user's lies in the present folder; at the end of the path it cannot hide an installed package.
    here = os.getcwd()
    sys.path.append(here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise InvalidData(
            f"the module of {text!r} cannot be imported ({type(error).__name__}: {error}); expected a file, or a "
            f"Python module that can be imported from {here!r}; check the path or the name"
        ) from error
    finally:
        sys.path.remove(here)


def _takes_model(function: object) -> bool:
    """Whether a function wants the model: it has a positional parameter without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(entry.kind in positional and entry.default is inspect.Parameter.empty for entry in parameters)


def _from_value(value: object, model: Model, what: str) -> DataSource:
    if isinstance(value, DataSource):
        return FittedSource(value, model, what)
    labels: object = None
    if isinstance(value, tuple):
        if len(value) != 2:
            raise InvalidData(
                f"{what} is a tuple of {len(value)}; expected (inputs, labels); return two things or an array"
            )
        value, labels = value
    if isinstance(value, Mapping):
        arrays = {str(name): array for name, array in value.items()}
    elif hasattr(value, "__array__") or isinstance(value, list):
        arrays = {only_input(model, what).name: value}
    else:
        raise InvalidData(
            f"{what} is a {type(value).__name__}; expected a DataSource, a mapping from input name to array, an array "
            f"or (inputs, labels), for {signature(model)}; change what the function returns"
        )
    if labels is not None:
        arrays["labels"] = labels
    return _from_arrays(arrays, model, what)
