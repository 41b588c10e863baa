"""What a graph does with an input, as far as the values it may hold depend on it."""

from collections import deque
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphrewrite.ir import ShapeInfo, constant_value

# Operators that hand on the values they are given, by the inputs they hand on.
_CARRIERS: dict[str, tuple[int, ...] | None] = {
    "Cast": (0,),
    "CastLike": (0,),
    "Concat": None,
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "Identity": (0,),
    "Reshape": (0,),
    "Slice": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
}

# Inputs that are sizes, counts, axes or rates: 1 is the value most likely to be legal.
_PARAMETERS: dict[str, frozenset[int]] = {
    "ConstantOfShape": frozenset({0}),
    "CumSum": frozenset({1}),
    "Dropout": frozenset({1, 2}),
    "Expand": frozenset({1}),
    "Loop": frozenset({0}),
    "OneHot": frozenset({1}),
    "Range": frozenset({0, 1, 2}),
    "Reshape": frozenset({1}),
    "Resize": frozenset({1, 2, 3}),
    "Slice": frozenset({1, 2, 3, 4}),
    "Split": frozenset({1}),
    "Tile": frozenset({1}),
    "TopK": frozenset({1}),
    "Upsample": frozenset({1}),
}

# A mask that is turned into "0 or minus infinity" goes through one of these on its way.
_MASK_OPS = frozenset({"Sub", "Equal", "Not", "Where", "Mul", "ReduceSum", "ReduceMin"})
_FARTHEST = 200  # nodes looked at per input: the use of an index or a mask shows close to the input


@dataclass(frozen=True)
class Use:
    """What is known about an input's values.

    Attributes:
        limit: exclusive upper bound of an index, None when it is not used as one.
        is_mask: the values say which positions count.
        is_parameter: the values are sizes, counts or rates.
    """

    limit: int | None = None
    is_mask: bool = False
    is_parameter: bool = False


def use_of(tensor: gs.Tensor, info: ShapeInfo) -> Use:
    """Follow an input through operators that keep its values, until something says what they mean."""
    limits: list[int] = []
    cast_then_masked = parameter = False
    queue: deque[tuple[gs.Tensor, bool]] = deque([(tensor, False)])
    seen = {id(tensor)}
    looked = 0
    while queue and looked < _FARTHEST:
        current, was_cast = queue.popleft()
        for node in current.outputs:
            looked += 1
            places = {index for index, source in enumerate(node.inputs) if source is current}
            parameter |= bool(places & _PARAMETERS.get(node.op, frozenset()))
            limits.extend(_index_limit(node, places, info))
            cast_then_masked |= was_cast and node.op in _MASK_OPS
            carried = _CARRIERS.get(node.op, ())
            if carried is None or places & set(carried):
                for output in node.outputs:
                    if id(output) not in seen:
                        seen.add(id(output))
                        queue.append((output, was_cast or node.op == "Cast"))
    named_mask = "mask" in tensor.name.lower()
    if limits:
        return Use(limit=min(limits))
    return Use(is_mask=named_mask or cast_then_masked, is_parameter=parameter)


def _index_limit(node: gs.Node, places: set[int], info: ShapeInfo) -> list[int]:
    """Return the smallest size, over the sample worlds, of the axes in which this node looks its index up."""
    if node.op in ("Gather", "GatherElements", "ScatterElements") and 1 in places:
        axis = int(node.attrs.get("axis", 0))
        return [
            min((shape[axis] for shape in _sizes(node, info) if -len(shape) <= axis < len(shape)), default=1)
        ]
    if node.op in ("GatherND", "ScatterND") and 1 in places:
        return [min((size for shape in _sizes(node, info) for size in shape), default=1)]
    if node.op == "OneHot" and 0 in places:
        depth = constant_value(node.inputs[1])
        return [int(depth.reshape(-1)[0])] if depth is not None and depth.size else [1]
    return []


def _sizes(node: gs.Node, info: ShapeInfo) -> list[tuple[int, ...]]:
    """Return the sizes of a node's first input in both sample worlds, as far as they are known."""
    found = (info.sizes(node.inputs[0].name, world) for world in (0, 1))
    return [sizes for sizes in found if sizes is not None]
