"""Operators that move elements without computing: reshape, transpose, concatenate, split, pad, expand, tile."""

from graphrewrite.ir.shape_rules.call import Call, Shape, Unknown, axis_of, shape_rule
from graphrewrite.ir.shape_rules.elementwise import broadcast_shapes
from graphrewrite.ir.sizes import ceil_div, note_divisible, note_equal, note_equal_products, product
from graphrewrite.ir.symbols import Dim, Sym, floor_div


def reshape_target(
    shape: Shape | None, target: list[Dim], allow_zero: bool, table_unknown: Sym | None
) -> list[Dim]:
    """Return the sizes after a reshape to `target` (0 copies a size, -1 is what is left)."""
    out: list[Dim] = []
    gap: int | None = None
    for axis, dim in enumerate(target):
        if isinstance(dim, int) and dim == 0 and not allow_zero:
            if shape is None:
                raise Unknown
            dim = shape[axis]
        elif isinstance(dim, int) and dim == -1:
            gap = axis
        out.append(dim)
    if gap is None:
        if shape is not None:
            note_equal_products(shape, out)
        return out
    if shape is None:
        if table_unknown is None:
            raise Unknown
        out[gap] = table_unknown
        return out
    # Sizes on both sides cancel first, so that a zero size somewhere does not divide by zero.
    left, right = list(shape), [dim for axis, dim in enumerate(out) if axis != gap]
    for dim in list(right):
        for index, other in enumerate(left):
            if other is dim or (isinstance(dim, int) and isinstance(other, int) and other == dim):
                del left[index]
                right.remove(dim)
                break
    note_divisible(left, right)
    out[gap] = floor_div(product(left), product(right))
    return out


@shape_rule("Reshape")
def reshape(call: Call) -> None:
    """The target is an attribute below opset 5, then an input."""
    shape = call.shape(0)
    old = call.opset < 5 and not call.has(1)
    target = list[Dim](call.integers("shape") or []) if old else call.ints(1)
    if target is None:
        raise Unknown
    call.put(0, reshape_target(shape, target, bool(call.integer("allowzero", 0)), call.unknown()))


@shape_rule("Flatten")
def flatten(call: Call) -> None:
    """Two axes: what lies before and after `axis`."""
    x = call.known(0)
    axis = call.integer("axis", 1)
    axis = axis + len(x) if axis < 0 else axis
    call.put(0, (product(x[:axis]), product(x[axis:])))


@shape_rule("Transpose")
def transpose(call: Call) -> None:
    """Permute; reversed by default."""
    x = call.known(0)
    order = call.integers("perm") or list(range(len(x)))[::-1]
    call.put(0, [x[axis] for axis in order])


def axes_of(call: Call, since: int) -> list[int] | None:
    """Return the axes: an attribute below opset `since`, then input 1; None when not given.

    Raises:
        Unknown: they are given, but not as numbers.
    """
    if call.opset < since and not call.has(1):
        return call.integers("axes")
    if not call.has(1):
        return call.integers("axes")
    axes = call.numbers(1)
    if axes is None:
        raise Unknown
    return axes


@shape_rule("Squeeze")
def squeeze(call: Call) -> None:
    """Drop axes of size 1: the given ones, or all."""
    x = call.known(0)
    axes = axes_of(call, 13)
    if axes is None:
        if any(isinstance(dim, Sym) for dim in x):
            raise Unknown
        call.put(0, [dim for dim in x if dim != 1])
        return
    dropped = {axis_of(axis, len(x)) for axis in axes}
    call.put(0, [dim for axis, dim in enumerate(x) if axis not in dropped])


@shape_rule("Unsqueeze")
def unsqueeze(call: Call) -> None:
    """Insert axes of size 1 at the given places of the result."""
    x = call.known(0)
    axes = axes_of(call, 13)
    if axes is None:
        raise Unknown
    call.put(0, unsqueezed(x, axes))


def unsqueezed(shape: Shape, axes: list[int]) -> list[Dim]:
    """Return a shape with 1 inserted at `axes` (counted in the result)."""
    rank = len(shape) + len(axes)
    places = {axis_of(axis, rank) for axis in axes}
    rest = iter(shape)
    return [1 if axis in places else next(rest) for axis in range(rank)]


@shape_rule("Concat")
def concat(call: Call) -> None:
    """Sizes add up along one axis; on the others all inputs agree."""
    shapes = [call.known(index) for index in range(len(call.names))]
    call.put(0, concat_shapes(shapes, call.integer("axis", 1)))


def concat_shapes(shapes: list[Shape], axis: int) -> list[Dim]:
    """Return the shape of tensors put one after the other along an axis."""
    out = list(shapes[0])
    axis = axis_of(axis, len(out))
    for shape in shapes[1:]:
        for index, dim in enumerate(shape):
            if index == axis:
                out[index] = out[index] + dim
            elif out[index] is not dim:
                note_equal(out[index], dim)
                # They agree in any valid run, so the one that says more stands for both.
                out[index] = _plainer(out[index], dim)
    return out


def _plainer(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) or isinstance(b, int):
        return a if isinstance(a, int) else b
    return b if None in a.sample and None not in b.sample else a


@shape_rule("Split")
def split(call: Call) -> None:
    """Windows of one axis: sizes from an attribute (below 13) or input 1, else equal parts, the last maybe shorter."""
    x = call.known(0)
    axis = axis_of(call.integer("axis", 0), len(x))
    count = len(call.outputs)
    sizes: list[Dim] | None = list(call.integers("split") or []) or None
    if call.has(1):
        sizes = call.ints(1)
        if sizes is None:
            raise Unknown
    if sizes is None:
        parts = call.integer("num_outputs", count)
        part = ceil_div(x[axis], parts) if call.opset >= 18 else floor_div(x[axis], parts)
        sizes = [part] * (parts - 1) + [x[axis] - part * (parts - 1)]
    for index in range(min(count, len(sizes))):
        call.put(index, (*x[:axis], sizes[index], *x[axis + 1 :]))


@shape_rule("Pad")
def pad(call: Call) -> None:
    """Pads are an attribute below opset 11, then input 1; from 18 on for some axes only."""
    x = call.known(0)
    rank = len(x)
    pads: list[Dim] | None = list(call.integers("pads") or call.integers("paddings") or []) or None
    if call.has(1) and call.opset >= 11:
        pads = call.ints(1)
    axes = list(range(rank))
    if call.has(3):
        given = call.numbers(3)
        if given is None:
            raise Unknown
        axes = [axis_of(axis, rank) for axis in given]
    if pads is None:
        raise Unknown
    out = list(x)
    for index, axis in enumerate(axes):
        out[axis] = out[axis] + pads[index] + pads[index + len(axes)]
    call.put(0, out)


@shape_rule("Expand")
def expand(call: Call) -> None:
    """Broadcast with the shape in input 1."""
    target = call.ints(1)
    if target is None:
        raise Unknown
    call.put(0, broadcast_shapes([call.known(0), tuple(target)]))


@shape_rule("Tile")
def tile(call: Call) -> None:
    """Sizes times repeats."""
    x = call.known(0)
    repeats = call.ints(1)
    if repeats is None or len(repeats) != len(x):
        raise Unknown
    call.put(0, [dim * times for dim, times in zip(x, repeats, strict=True)])


@shape_rule("DepthToSpace")
def depth_to_space(call: Call) -> None:
    """Channels to blocks of space."""
    x, block = call.known(0), call.integer("blocksize", 1)
    call.put(0, (x[0], floor_div(x[1], block * block), x[2] * block, x[3] * block))


@shape_rule("SpaceToDepth")
def space_to_depth(call: Call) -> None:
    """Blocks of space to channels."""
    x, block = call.known(0), call.integer("blocksize", 1)
    call.put(0, (x[0], x[1] * (block * block), floor_div(x[2], block), floor_div(x[3], block)))


@shape_rule("CenterCropPad")
def center_crop_pad(call: Call) -> None:
    """Given sizes on given axes (all by default)."""
    x, sizes = call.known(0), call.ints(1)
    axes = call.integers("axes")
    if sizes is None:
        raise Unknown
    out = list(x)
    for axis, size in zip(axes if axes is not None else range(len(x)), sizes, strict=True):
        out[axis_of(axis, len(x))] = size
    call.put(0, out)
