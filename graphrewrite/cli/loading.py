"""Reading the model a user names."""

import os

from graphrewrite.errors import InvalidModel
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
