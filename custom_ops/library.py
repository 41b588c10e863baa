"""The compiled library: where it is, and how a session gets to know it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from graphrewrite.errors import KernelUnavailable

if TYPE_CHECKING:
    import onnxruntime as ort

# Where set, the library to use instead of the installed one: a fresh build, or one with sanitizers.
OVERRIDE = "GRAPHREWRITE_LIBRARY"
_MARK = "graphrewrite.registered"
_NAMES = ("libgraphrewrite_ops.so", "libgraphrewrite_ops.dylib", "graphrewrite_ops.dll")


def library_path() -> Path:
    """Return the file to hand to `SessionOptions.register_custom_ops_library`, Triton, C++, C# or Java.

    Raises:
        KernelUnavailable: this installation was made without a compiler; models run through their function bodies.
    """
    override = os.environ.get(OVERRIDE)
    if override:
        if not Path(override).is_file():
            raise KernelUnavailable(
                f"{OVERRIDE} names {override!r}, which is no file; expected a compiled library; correct or unset it"
            )
        return Path(override)
    found = _installed()
    if found is None:
        raise KernelUnavailable(
            "this installation holds no compiled kernels: it was built without a C++ compiler, or with "
            "GRAPHREWRITE_NO_KERNELS set; models still run through their function bodies; "
            "install a compiler and then graphrewrite again"
        )
    return found


def available() -> bool:
    """Tell whether the compiled kernels are there."""
    return bool(os.environ.get(OVERRIDE)) or _installed() is not None


def register(options: "ort.SessionOptions") -> "ort.SessionOptions":
    """Make the kernels known to sessions started with these options; doing so twice changes nothing.

    Returns `options`, so that it can be written around them.

    Raises:
        KernelUnavailable: there is no compiled library, or this onnxruntime does not take it.
    """
    if _is_marked(options):
        return options
    path = library_path()
    try:
        options.register_custom_ops_library(str(path))
        options.add_session_config_entry(_MARK, "1")
    except Exception as error:  # onnxruntime's own classes share no public base
        raise KernelUnavailable(
            f"onnxruntime does not take the library {str(path)!r} ({' '.join(str(error).split())}); "
            "expected onnxruntime 1.17 or newer and a library built for this machine; install graphrewrite again"
        ) from error
    return options


def _is_marked(options: "ort.SessionOptions") -> bool:
    # A second registration is only refused when a session starts. The mark is an entry that onnxruntime does not read.
    try:
        return bool(options.get_session_config_entry(_MARK))
    except RuntimeError:  # there is no such entry
        return False


def _installed() -> Path | None:
    # In an editable install the Python files lie in the checkout and the library where packages are installed.
    from graphrewrite import custom_ops

    for folder in custom_ops.__path__:
        for name in _NAMES:
            if (Path(folder) / name).is_file():
                return Path(folder) / name
    return None
