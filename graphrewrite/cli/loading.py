"""Reading the model and the JSON files that a user names."""

import os
from pathlib import Path

from graphrewrite.errors import InvalidConfig, InvalidModel
from graphrewrite.ir import Model
from graphrewrite.ir.check import check


def load(path: str | os.PathLike[str]) -> Model:
    """Load a model file and check it, so that whatever goes wrong later is no fault of the file.

    Raises:
        InvalidModel: it is no usable ONNX model; the message names the file, why, and what to do.
    """
    try:
        model = Model.load(path)
        check(model)
    except InvalidModel as error:
        name = os.fspath(path)
        raise InvalidModel(str(error) if name in str(error) else f"{name!r}: {error}") from error
    return model


def read_text(path: str, what: str) -> str:
    """Return the text of a JSON file; `what` names it in the message.

    Raises:
        InvalidConfig: it cannot be read, or is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InvalidConfig(
            f"the {what} {path!r} cannot be read ({reason}); expected a JSON file; check the path"
        ) from error
