"""Operators that move axes about: reshape, transpose, join, split, grow."""

from typing import TYPE_CHECKING

import numpy as np

from graphrewrite.dims.axes import ONE, Axis, Factor, Pair, Rows, of_rows, rigid, same
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.parts import pick_part
from graphrewrite.dims.sweep import Step, rule

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


@rule("Reshape")
def reshape(s: Step) -> None:
    """Row-major regrouping; the target is restated where a cut axis is written into it."""
    x = s.axes(0)
    shuffle: tuple[str, int, Ints] | None = None

    def is_shuffle(axes: list[Axis]) -> bool:
        nonlocal shuffle
        shuffle = _shuffle(s, axes)
        return shuffle is not None

    out = s.reshaped(x, s.out_sizes(), is_shuffle)
    s.out(out)
    if shuffle is None:
        s.restate(out, lambda cut: cut.set_target(s.index, 1, out))
        return
    source, axis, order = shuffle

    def follow(cut: "Cut") -> None:
        if cut.is_cut(out[axis]):
            cut.set_shuffle(s.index, source, axis, out[axis], order)
        else:
            cut.set_target(s.index, 1, out)

    s.restate(out, follow)


def _shuffle(s: Step, out: list[Axis]) -> tuple[str, int, Ints] | None:
    """Recognise a permutation of one axis, written as reshapes and transposes, by its effect.

    Returns (tensor that is permuted, axis, where each position comes from) when everything between that tensor and here
    only moves data and is read by nobody else: a cut can then be one Gather, and no tie is needed.
    """
    shuffled = [
        (i, axis.factors[0])
        for i, axis in enumerate(out)
        if len(axis.factors) == 1 and _is_shuffled(axis.factors[0])
    ]
    if len(shuffled) != 1:
        return None
    number, rows = shuffled[0]
    assert isinstance(rows, Rows) and rows.shuffled is not None and rows.order is not None
    nodes = s.analysis.positions
    passed: list[int] = []
    tensor = s.node.inputs[0]
    for _ in range(8):
        if len(tensor.outputs) != 1 or len(tensor.inputs) != 1 or id(tensor) in s.analysis.returned:
            return None
        node = tensor.inputs[0]
        if (
            node.op not in ("Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze")
            or id(node) not in nodes
        ):
            return None
        passed.append(nodes[id(node)])
        tensor = node.inputs[0]
        axes = s.analysis.env.get(tensor.name)
        if axes is None:
            return None
        if len(axes) == len(out) and all(
            (i == number and len(a.factors) == 1 and _is_block(a.factors[0], rows))
            or (i != number and same(a, b))
            for i, (a, b) in enumerate(zip(axes, out, strict=True))
        ):
            s.analysis.bypassed.update(dict.fromkeys(passed, out[number]))
            return tensor.name, number, rows.order
    return None


def _is_shuffled(factor: Factor) -> bool:
    return isinstance(factor, Rows) and factor.order is not None


def _is_block(factor: Factor, rows: Rows) -> bool:
    return isinstance(factor, Rows) and rows.shuffled is not None and factor.labels is rows.shuffled.labels


@rule("Flatten")
def flatten(s: Step) -> None:
    """Two axes: the product of those before `axis`, and of the rest."""
    x = s.axes(0)
    s.out(s.reshaped(x, s.out_sizes()))


@rule("Transpose")
def transpose(s: Step) -> None:
    """Axes change places."""
    x = s.axes(0)
    order = s.integers("perm") or list(range(len(x)))[::-1]
    s.out([x[i] for i in order])


@rule("Squeeze")
def squeeze(s: Step) -> None:
    """Axes of length one go."""
    x = s.axes(0)
    axes = s.integers("axes") or (s.numbers(1) if s.has(1) else None)
    gone = {a % len(x) for a in axes} if axes else {i for i, axis in enumerate(x) if axis.sizes == (1, 1)}
    for i in gone:
        s.pin(x[i], "an axis of length one")
    s.out([axis for i, axis in enumerate(x) if i not in gone])


@rule("Unsqueeze")
def unsqueeze(s: Step) -> None:
    """Axes of length one come in."""
    x = s.axes(0)
    axes = s.integers("axes") or s.numbers(1) or []
    rank = len(s.out_sizes())
    new = {a % rank for a in axes}
    rest = iter(x)
    s.out([ONE if i in new else next(rest) for i in range(rank)])


@rule("Concat")
def concat(s: Step) -> None:
    """Each input is a window of the joined axis."""
    s.out(join(s, [s.axes(slot) for slot in range(len(s.node.inputs))]))


def join(s: Step, parts: list[list[Axis]], default: int = 0) -> list[Axis]:
    """Return the axes of a concatenation along the axis the node names; all other axes are shared."""
    sizes = s.out_sizes()
    axis = s.integer("axis", default) % len(sizes)
    parts = [part for part in parts if part[axis].sizes != (0, 0)] or parts[:1]
    out = []
    for i in range(len(sizes)):
        if i == axis:
            out.append(_joined(s, [part[i] for part in parts], sizes[i]))
            continue
        lead = next((part[i] for part in parts if not part[i].is_rigid), parts[0][i])
        for part in parts:
            s.tie(lead, part[i])
        out.append(lead)
    return out


def _joined(s: Step, parts: list[Axis], sizes: Pair) -> Axis:
    if len(parts) == 1:
        return parts[0]
    if all(part.is_rigid for part in parts):
        return rigid(sizes, next((part.cause for part in parts if part.cause), ""))
    if not all(part.is_static for part in parts):
        for part in parts:
            s.pin(part, "joined with a dynamic axis")
        return rigid(sizes, "joined with a dynamic axis")
    return of_rows(stack([s.rows(part) for part in parts]))


def stack(blocks: list[Ints]) -> Ints:
    """Put rows of different widths under each other."""
    width = max(block.shape[1] for block in blocks)
    return np.concatenate([np.pad(block, ((0, 0), (0, width - block.shape[1]))) for block in blocks])


@rule("Split")
def split(s: Step) -> None:
    """Windows of one axis; none of them may become empty."""
    x = s.axes(0)
    axis = s.integer("axis", 0) % len(x)
    sizes = [s.out_sizes(output)[axis] for output in range(len(s.node.outputs))]
    if all(pair == (1, 1) for pair in sizes):
        found = pick_part(s, x, axis, range(len(sizes)), lambda: _split(s, s.forced(x), axis, sizes))
        if found is not None:
            s.ignore(*range(1, len(s.node.inputs)))
            for output, axes in enumerate(found):
                s.out(axes, output)
            return
    _split(s, s.forced(x), axis, sizes)


def _split(s: Step, x: list[Axis], axis: int, sizes: list[Pair]) -> None:
    if x[axis].is_rigid:
        windows = [rigid(pair, x[axis].cause) for pair in sizes]
    else:
        edges = np.cumsum([0, *(pair[0] for pair in sizes)])
        rows = s.rows(x[axis])
        windows = [s.window(of_rows(rows[a:b])) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        s.restate([x[axis]], lambda cut: cut.set_split(s.index, windows))
    for output, window in enumerate(windows):
        s.out([window if i == axis else a for i, a in enumerate(x)], output)


@rule("Expand")
def expand(s: Step) -> None:
    """Axes of length one grow into new ones."""
    x = s.axes(0)
    _grow(s, x, 1)


def _grow(s: Step, x: list[Axis], slot: int) -> None:
    sizes = s.out_sizes()
    old = [ONE] * (len(sizes) - len(x)) + list(x)
    out = [
        axis if axis.sizes == pair or axis.sizes != (1, 1) else s.fresh(pair)
        for axis, pair in zip(old, sizes, strict=True)
    ]
    s.restate(out, lambda cut: cut.set_sizes(s.index, slot, out))
    s.out(out)


@rule("ConstantOfShape")
def constant_of_shape(s: Step) -> None:
    """Every static axis is new."""
    out = [s.fresh(pair) for pair in s.out_sizes()]
    s.restate(out, lambda cut: cut.set_sizes(s.index, 0, out))
    s.out(out)


@rule("RandomNormalLike", "RandomUniformLike", "EyeLike")
def made_like(s: Step) -> None:
    """The shape of the input would change what is generated."""
    for axis in s.axes(0):
        s.pin(axis, "what is generated depends on the shape")


@rule("Tile")
def tile(s: Step) -> None:
    """A repeated axis repeats its labels; an axis of length one grows into a new one."""
    x = s.forced(s.axes(0))
    out, grown = [], []
    for axis, pair in zip(x, s.out_sizes(), strict=True):
        if axis.sizes == pair:
            out.append(axis)
        elif axis.sizes == (1, 1):
            out.append(s.fresh(pair))
            grown.append((len(out) - 1, out[-1]))
        elif axis.is_rigid or pair[0] != pair[1]:
            s.pin(axis, "repeated a dynamic number of times")
            out.append(rigid(pair, "tiled"))
        else:
            out.append(of_rows(np.tile(s.rows(axis), (pair[0] // axis.sizes[0], 1))))
    s.restate(
        [axis for _, axis in grown],
        lambda cut: cut.set_elements(s.index, 1, {i: cut.count(a) for i, a in grown}),
    )
    s.out(out)


@rule("Pad")
def pad(s: Step) -> None:
    """Constant padding makes new positions at both ends."""
    x = s.forced(s.axes(0))
    attribute = s.integers("pads") or s.integers("paddings")
    pads = attribute or s.numbers(1)
    axes = s.numbers(3) if s.has(3) else list(range(len(x)))
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        s.refuse("the padding depends on the input")
        return
    out = list(x)
    cuts: dict[int, tuple[Axis, Axis]] = {}
    for position, raw in enumerate(axes):
        low, high = pads[position], pads[position + len(axes)]
        axis = x[raw % len(x)]
        if low == 0 and high == 0:
            continue
        sizes = s.out_sizes()[raw % len(x)]
        if axis.is_rigid or s.attr("mode", "constant") != "constant" or low < 0 or high < 0:
            s.pin(axis, "padding of this kind depends on the neighbours")
            out[raw % len(x)] = rigid(sizes, f"padded by {s.why}")
            continue
        ends = [s.fresh((n, n)) if n != 1 else of_rows(s.labels.fresh(1)) for n in (low, high)]
        blocks = [s.rows(end) for end in ends]
        out[raw % len(x)] = of_rows(
            stack([block for block in (blocks[0], s.rows(axis), blocks[1]) if len(block)])
        )
        cuts[position] = (ends[0], ends[1])
    if cuts:
        numbers = list(pads)

        def follow(cut: "Cut") -> None:
            for position, (low, high) in cuts.items():
                numbers[position], numbers[position + len(axes)] = cut.remaining(low), cut.remaining(high)
            cut.set_numbers(s.index, 1, "pads" if attribute else None, numbers)

        s.restate([out[axes[position] % len(x)] for position in cuts], follow)
    s.out(out)


@rule("Shape", "Size")
def shape_of(s: Step) -> None:
    """Reports sizes: frozen to the old ones, so every number derived from them stays what it was."""
    x = s.axes(0)
    s.restate(x, lambda cut: cut.freeze(s.index, x))


@rule("Range", "OneHot", "NonZero", "NonMaxSuppression", "Multinomial", "Bernoulli", "Unique", "Compress")
def positions(s: Step) -> None:
    """Results depend on positions or values of every input: all inputs stay whole."""
    s.refuse(f"{s.node.op} depends on every position")
