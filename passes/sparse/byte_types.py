"""Activations of a quantised model as uint8 where they are int8: the same numbers, a zero point 128 higher."""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array
from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.tidy.reading import integer, source


def unsigned(draft: Draft) -> int:
    """Turn int8 tensors between QuantizeLinear and DequantizeLinear into uint8 and return how many.

    Nothing is done unless all can be turned: operators that meet several quantised tensors want them to be of one type.
    Exact: bytes and zero points move together, and the ends of the range with them.
    """
    made: list[gs.Node] = []
    for node in draft.nodes():
        if (
            node.op == "DequantizeLinear"
            and is_default_domain(node)
            and not draft.is_constant(node.inputs[0])
        ):
            zero = _zero(draft, node)
            if zero is not None and zero.dtype == np.int8 and not _is_quantised(draft, node.inputs[0]):
                return 0
        if node.op == "QuantizeLinear" and is_default_domain(node):
            zero = _zero(draft, node)
            if zero is None and _says_int8(node):
                return 0
            if zero is not None and zero.dtype == np.int8:
                if not _can_turn(draft, node):
                    return 0
                made.append(node)
    moved: dict[int, gs.Constant] = {}
    for node in made:
        tensor = node.outputs[0]
        for each in (node, *draft.users(tensor)):
            old = each.inputs[2]
            if id(old) not in moved:
                values = draft.constant(old)
                assert values is not None
                higher = (values.astype(np.int16) + 128).astype(np.uint8)
                moved[id(old)] = draft.add_constant(higher, f"{old.name}_unsigned")
            draft.set_input(each, 2, moved[id(old)])
        if "output_dtype" in node.attrs:
            draft.set_attribute(node, "output_dtype", None)
        shape = draft.shape(tensor)
        draft.describe(tensor, shape, np.dtype(np.uint8))
        tensor.dtype = np.dtype(np.uint8)
    return len(made)


def _can_turn(draft: Draft, node: gs.Node) -> bool:
    tensor = node.outputs[0]
    if draft.is_output(tensor):
        return False
    for user in draft.users(tensor):
        if user.op != "DequantizeLinear" or not is_default_domain(user) or user.inputs[0] is not tensor:
            return False
        zero = _zero(draft, user)
        if zero is None or zero.dtype != np.int8:
            return False
    return True


def _is_quantised(draft: Draft, tensor: gs.Tensor) -> bool:
    maker = draft.producer(tensor)
    return maker is not None and maker.op == "QuantizeLinear" and is_default_domain(maker)


def _zero(draft: Draft, node: gs.Node) -> Array | None:
    zero = source(node, 2)
    return None if zero is None else draft.constant(zero)


def _says_int8(node: gs.Node) -> bool:
    return integer(node, "output_dtype", 0) == 3
