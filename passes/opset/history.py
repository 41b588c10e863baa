"""What onnx's record of all versions of an operator says of one node: does it mean the same in another version?"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx.defs import OpSchema

from graphrewrite.errors import InvalidModel
from graphrewrite.ir.check import EARLY
from graphrewrite.ir.codec import attribute_value
from graphrewrite.ir.values import numpy_dtype_to_onnx

OLDEST = 7  # before, sums did not broadcast and weights were named by hand; onnxruntime begins here too
NEWEST = 28  # up to here every change was looked at: what the schemas do not show has an adapter
_ONE_OR_NONE = (OpSchema.FormalParameterOption.Single, OpSchema.FormalParameterOption.Optional)

Dtype = Callable[[gs.Tensor], "np.dtype[np.generic] | None"]


@cache
def versions(op: str) -> tuple[int, ...]:
    """Return the operator sets that brought a version of a standard operator, oldest first."""
    return tuple(sorted(_record().get(op, {})))


def described(op: str, opset: int) -> OpSchema | None:
    """Return how an operator set describes an operator, None where it does not know it."""
    known = [version for version in versions(op) if version <= opset]
    if not known and op in EARLY and versions(op):
        known = [versions(op)[0]]
    return _record()[op][known[-1]] if known else None


def between(op: str, start: int, to: int) -> list[int]:
    """Return the versions of an operator that lie behind `start` on the way to `to`, in the order of the way."""
    if start <= to:
        return [version for version in versions(op) if start < version <= to and version != _first(op)]
    return [version for version in reversed(versions(op)) if to < version <= start]


def why_not(node: gs.Node, old: OpSchema, new: OpSchema, dtype: Dtype) -> str:
    """Return why a node cannot stay as it is, "" where it can; an attribute that says what is so anyway may go."""
    if new.deprecated:
        return f"operator set {new.since_version} does not have it any more"
    for name in [name for name in node.attrs if name in old.attributes and name not in new.attributes]:
        if not _is_default(node.attrs[name], old.attributes[name]):
            return f"operator set {new.since_version} has no attribute {name}"
    for name, attribute in new.attributes.items():
        if name in node.attrs:
            continue
        if attribute.required:
            return f"operator set {new.since_version} asks for the attribute {name}"
        before = old.attributes.get(name)
        if before is not None and _default(before) != _default(attribute):
            return f"operator set {new.since_version} takes another {name} where none is given"
    for what, given, formal, least in (
        ("inputs", list(node.inputs), new.inputs, new.min_input),
        ("outputs", list(node.outputs), new.outputs, new.min_output),
    ):
        count = _given(given)
        most = new.max_input if what == "inputs" else new.max_output
        if not least <= count <= most:
            return f"operator set {new.since_version} has {least} to {most} {what}, and it has {count}"
        if _shifted(old.inputs if what == "inputs" else old.outputs, formal, count):
            return f"operator set {new.since_version} has its {what} in other places"
    return _untyped(node, old, new, dtype)


def drop_defaults(node: gs.Node, old: OpSchema, new: OpSchema) -> None:
    """Take attributes off a node that its new version does not have; `why_not` has seen that they say nothing."""
    for name in [name for name in node.attrs if name in old.attributes and name not in new.attributes]:
        del node.attrs[name]


def known(opset: int) -> bool:
    """Tell whether an operator set is one whose changes were looked at and that this onnx knows."""
    return OLDEST <= opset <= min(NEWEST, onnx.defs.onnx_opset_version())


def check_start(opset: int) -> None:
    """Return when models of an operator set can be converted.

    Raises:
        InvalidModel: the set is too old, or newer than any that was looked at.
    """
    if not known(opset):
        raise InvalidModel(
            f"the model's operator set is {opset}; expected {OLDEST} to "
            f"{min(NEWEST, onnx.defs.onnx_opset_version())} to convert it; export it again"
        )


@cache
def _record() -> dict[str, dict[int, OpSchema]]:
    found: dict[str, dict[int, OpSchema]] = {}
    for each in onnx.defs.get_all_schemas_with_history():
        if each.domain == "":
            found.setdefault(each.name, {})[each.since_version] = each
    return found


def _first(op: str) -> int:
    return versions(op)[0]


def _default(attribute: OpSchema.Attribute) -> object:
    return attribute_value(attribute.default_value, {}) if attribute.default_value.name else None


def _is_default(value: object, attribute: OpSchema.Attribute) -> bool:
    return value == _default(attribute)


def _given(tensors: list[gs.Tensor]) -> int:
    """Count inputs or outputs up to the last one that is there."""
    return max((place + 1 for place, tensor in enumerate(tensors) if not tensor.is_empty()), default=0)


def _shifted(
    old: Sequence[OpSchema.FormalParameter], new: Sequence[OpSchema.FormalParameter], count: int
) -> bool:
    """Tell whether one of the first `count` parameters is single in one version and of any number in the other."""
    return any(
        (a.option in _ONE_OR_NONE) != (b.option in _ONE_OR_NONE)
        for a, b in zip(old[:count], new[:count], strict=False)
    )


def _untyped(node: gs.Node, old: OpSchema, new: OpSchema, dtype: Dtype) -> str:
    """Return which input may have a type that the new version does not take, "" for none."""
    for tensor, before, after in zip(node.inputs, old.inputs, new.inputs, strict=False):
        if tensor.is_empty() or set(before.types) <= set(after.types):
            continue
        found = dtype(tensor)
        named = "" if found is None else _TYPES.get(numpy_dtype_to_onnx(found), "")
        if named not in after.types:
            kind = f"of type {found}" if found is not None else "whose type is not known"
            return f"operator set {new.since_version} does not take {tensor.name!r}, {kind}"
    return ""


_TYPES = {
    number: f"tensor({name.lower()})"
    for name, number in onnx.TensorProto.DataType.items()
    if name != "UNDEFINED"
}
