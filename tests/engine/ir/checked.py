"""Small models for tests of soundness, and what the check says of them."""

import onnx
import pytest
from onnx import ModelProto, TensorProto

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Model
from graphrewrite.ir.check import check
from tests.engine.ir.protos import graph, info, model, node

X, Y, C = info("x"), info("y"), info("c", [], TensorProto.BOOL)


def chain() -> ModelProto:
    return model(
        [node("Relu", ["x"], ["h"], name="first"), node("Exp", ["h"], ["y"], name="second")], [X], [Y]
    )


def branch(then: onnx.GraphProto) -> ModelProto:
    other = graph([node("Neg", ["x"], ["e"])], [], [info("e")])
    return model([node("If", ["c"], ["y"], name="if", then_branch=then, else_branch=other)], [X, C], [Y])


def complaint(proto: ModelProto) -> str:
    """Return the one line that check raises."""
    with pytest.raises(InvalidModel) as caught:
        check(Model.from_proto(proto))
    text = str(caught.value)
    assert "\n" not in text
    assert text.count(";") >= 1  # what is wrong; what was expected or is to be done
    return text
