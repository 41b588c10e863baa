"""onnx's record of versions, and how far it has been read."""

import onnx
import pytest
from onnx.defs import OpSchema

from graphrewrite.errors import InvalidConfig, InvalidModel
from graphrewrite.ir import Builder
from graphrewrite.passes.opset import ConvertOpset, convert, converted
from graphrewrite.passes.opset.history import NEWEST, OLDEST, between, versions


def test_no_operator_set_is_newer_than_what_was_looked_at() -> None:
    """When this fails: look at each new version of an operator, add adapters, then raise NEWEST."""
    assert onnx.defs.onnx_opset_version() <= NEWEST


def changes() -> list[tuple[str, int, OpSchema, OpSchema]]:
    by_op: dict[str, list[OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            by_op.setdefault(schema.name, []).append(schema)
    found = []
    for op, schemas in by_op.items():
        schemas.sort(key=lambda schema: schema.since_version)
        found += [(op, new.since_version, old, new) for old, new in zip(schemas, schemas[1:], strict=False)]
    return [each for each in found if OLDEST < each[1] <= NEWEST]


def test_attributes_that_became_inputs_have_adapters() -> None:
    moved = {
        (op, since)
        for op, since, old, new in changes()
        for name in set(old.attributes) - set(new.attributes)
        if name.lower() in {parameter.name.lower() for parameter in new.inputs}
    }

    assert len(moved) >= 20
    assert moved <= convert._ADAPTERS.keys()


def test_defaults_that_changed_have_adapters() -> None:
    def default(attribute: OpSchema.Attribute) -> object:
        return attribute.default_value.SerializeToString()

    moved = {
        (op, since)
        for op, since, old, new in changes()
        for name in set(old.attributes) & set(new.attributes)
        if default(old.attributes[name]) != default(new.attributes[name])
    }

    assert moved == {("Softmax", 13), ("LogSoftmax", 13), ("Hardmax", 13), ("GridSample", 20)}


def test_operators_that_went_have_adapters() -> None:
    gone = {(op, since) for op, since, _, new in changes() if new.deprecated}

    assert gone == {("Upsample", 10), ("Scatter", 11)} and gone <= convert._ADAPTERS.keys()


def test_the_way_goes_over_each_version_once() -> None:
    assert versions("Softmax") == (1, 11, 13)
    assert between("Softmax", 9, 21) == [11, 13]
    assert between("Softmax", 11, 21) == [13]
    assert between("Softmax", 21, 11) == [13]
    assert between("Softmax", 13, 21) == []


@pytest.mark.parametrize("to", [6, NEWEST + 1, True])
def test_sets_that_nobody_looked_at_are_refused(to: int) -> None:
    with pytest.raises(InvalidConfig, match="expected an operator set from 7 to"):
        ConvertOpset(to)


def test_a_model_that_is_too_old_is_refused() -> None:
    b = Builder(6)
    model = b.model(b.op("Relu", b.input([2], "x")))
    with pytest.raises(InvalidModel, match="operator set is 6; expected 7 to"):
        converted(model, 13)
