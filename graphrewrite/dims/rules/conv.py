"""Convolutions, pooling and the other operators on feature maps [N, C, space...]."""

from collections.abc import Sequence

from graphrewrite.dims.axes import Axis, of_rows, outer, rigid
from graphrewrite.dims.ragged import LEAST_MEMBERS
from graphrewrite.dims.rules.linear import size
from graphrewrite.dims.slots import Making
from graphrewrite.dims.sweep import Balance, Step, pairs, rule


def feature_map(s: Step, slot: int = 0, channels_last: bool = False) -> list[Axis]:
    """Return the axes of a feature map as [N, C, space...], its space pinned."""
    axes = s.forced(s.axes(slot))
    if channels_last:
        axes = [axes[0], axes[-1], *axes[1:-1]]
    for axis in axes[2:]:
        s.pin(axis, "a spatial axis")
    return axes


def kernel(s: Step, slot: int) -> list[Axis]:
    """Return the axes of a convolution weight: two channel axes, then the kernel, from which nothing goes."""
    if s.constant(slot) is None:
        axes = s.forced(s.own(slot))
        for axis in axes[2:]:
            s.pin(axis, "a kernel axis")
        return axes
    return s.weight(slot, (0, 1))


def space(s: Step, output: int = 0, channels_last: bool = False) -> list[Axis]:
    """Return the output's spatial axes."""
    sizes = s.out_sizes(output)
    return [rigid(pair, f"space of {s.why}") for pair in (sizes[1:-1] if channels_last else sizes[2:])]


@rule("Conv")
def conv(s: Step) -> None:
    """Input channels are mixed into output channels, inside each group."""
    x, along = _with_neighbours(s)
    w = kernel(s, 1)
    convolve(s, 1, x, w)
    if s.has(2):
        s.tie(w[0], s.axes(2)[0])
    s.out([x[0], w[0], *(along.get(i + 2, axis) for i, axis in enumerate(space(s)))])


def _with_neighbours(s: Step) -> tuple[list[Axis], dict[int, Axis]]:
    """Return the axes of the input, and those of its space that may be cut because the kernel slides along channels.

    Channel attention convolves across channels: what is space to the operator is the width of a layer to the model.
    """
    x = s.forced(s.axes(0))
    strides = s.integers("strides") or [1] * (len(x) - 2)
    along = {}
    for number, (axis, pair) in enumerate(zip(x[2:], s.out_sizes()[2:], strict=True), start=2):
        if axis.is_rigid:
            continue
        if axis.sizes == pair and strides[number - 2] == 1:
            s.neighbours(number, axis)
            along[number] = axis
        else:
            s.pin(axis, "a spatial axis")
    return x, along


def convolve(
    s: Step, slot: int, x: Sequence[Axis], w: Sequence[Axis], kind: str = "zero", channel: int = 1
) -> None:
    """Tie the channels of input 0 with the weight at `slot`, [out, in/group, kernel], and record work and mixing.

    `x` lists the input's axes as [N, C, space...]; `channel` says which axis of the tensor C is.
    """
    groups = s.integer("group", 1)
    out = s.out_sizes()
    work = float(size(out[2:] if channel == 1 else out[1:-1]) * size(s.sizes(slot)[2:]))
    s.contracts(slot, 1)
    if groups > 1:
        grouped(s, slot, x[1], w, groups, work, x[0])
    else:
        s.tie(x[1], w[1])
        s.macs(work, [x[0], w[0], w[1]])
    if groups == 1 or x[1].sizes[0] > groups:
        s.mix(kind, 0, {channel: x[1]})


def grouped(s: Step, slot: int, x: Axis, w: Sequence[Axis], groups: int, work: float, batch: Axis) -> None:
    """Tie a grouped convolution: every group loses equally many channels, or groups and slots form a product."""
    into, out = x.sizes[0] // groups, w[0].sizes[0] // groups

    def as_product() -> None:
        group_in, slots = s.digits(x, [groups, into])
        group_out, _ = s.digits(w[0], [groups, out])
        s.tie(group_in, group_out)
        if into > 1:
            s.tie(w[1], slots)
        s.macs(work, [batch, w[0], w[1]])
        s.restate([group_in], lambda cut: cut.set_attr(s.index, "group", cut.count(group_in)))

    making = Making(s, slot, (w[0], w[1]))

    # Groups die on both sides at once, so not where one of them has to stay whole.
    node = -1 if x.is_rigid or w[0].is_rigid else s.index
    balances = [Balance(x, groups, node), Balance(w[0], groups, node)]

    def as_balance() -> None:
        making.balance(x, groups)
        s.macs(work / groups, [batch, w[0], x], balances[0])
        s.restate([x, w[0]], lambda cut: cut.set_groups(s.index, "group", balances))

    if min(into, out) < LEAST_MEMBERS:
        as_product()
    else:
        s.balance(balances, as_balance, as_product, is_possible=making.is_followed)


@rule("ConvTranspose")
def conv_transpose(s: Step) -> None:
    """The weight is [C, O/group, kernel]."""
    x, w = feature_map(s), kernel(s, 1)
    groups = s.integer("group", 1)
    s.tie(x[1], w[0])
    s.contracts(1, 0)
    s.mix("zero", 0, {1: x[1]})
    work = float(size(s.sizes(0)[2:]) * size(s.sizes(1)[2:]))
    s.macs(work, [x[0], w[0], w[1]])
    out = w[1]
    if groups > 1:
        group, _ = s.digits(w[0], [groups, w[0].sizes[0] // groups])
        s.restate([group], lambda cut: cut.set_attr(s.index, "group", cut.count(group)))
        if group.is_rigid and w[1].is_rigid:
            out = rigid(groups * w[1].sizes[0])
        else:
            out = of_rows(outer([s.rows(group), s.rows(w[1])]))
    if s.has(2):
        s.tie(out, s.axes(2)[0])
    s.out([x[0], out, *space(s)])


@rule("DeformConv")
def deform_conv(s: Step) -> None:
    """A convolution whose sampling places come from another input, one set for each run of channels."""
    if s.integer("group", 1) != 1:
        s.refuse("a deformable convolution in groups is not followed")
        return
    x, w = feature_map(s), kernel(s, 1)
    sets = s.integer("offset_group", 1)
    if sets > 1:  # every run of channels loses the same of its members, none goes altogether
        s.pin(s.digits(x[1], [sets, x[1].sizes[0] // sets])[0], "channels share their places in runs")
    s.contracts(1, 1)
    s.tie(x[1], w[1])
    s.mix("zero", 0, {1: x[1]})
    s.macs(float(size(s.out_sizes()[2:]) * size(s.sizes(1)[2:])), [x[0], w[0], w[1]])
    if s.has(3):
        s.tie(w[0], s.axes(3)[0])
    s.out([x[0], w[0], *space(s)])


@rule("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def pool(s: Step) -> None:
    """Batch and channels pass; indices count across channels, so only unpooling may read them."""
    x = feature_map(s)
    indices = s.node.outputs[1] if len(s.node.outputs) > 1 else None
    if indices is not None and indices.name:
        undone = [node for node in indices.outputs if node.op == "MaxUnpool"]
        if len(undone) < len(indices.outputs) or any(indices is t for t in s.analysis.model.graph.outputs):
            s.pin(x[1], "the indices output counts across channels")
        s.out([x[0], x[1], *space(s)], 1)
    s.out([x[0], x[1], *space(s)])


@rule("MaxUnpool")
def max_unpool(s: Step) -> None:
    """Pooled values go back to where they came from: both count places in a map of the same channels and space."""
    x, indices = feature_map(s), s.forced(s.axes(1))
    s.tie(x[1], indices[1])
    makers = s.node.inputs[1].inputs
    made = pairs(s.analysis.info, makers[0].inputs[0].name) if makers and makers[0].op == "MaxPool" else None
    if made is None or made[2:] != s.out_sizes()[2:]:
        s.pin(x[1], "the indices count across channels of a map of another size")
    if s.has(2):
        s.ignore(2)
        s.restate([x[1]], lambda cut: cut.set_elements(s.index, 2, {1: cut.count(x[1])}))
    s.out([x[0], x[1], *space(s)])


@rule("Resize", "Upsample")
def resize(s: Step) -> None:
    """Axes of unchanged length pass; a target given as sizes is restated."""
    x = s.forced(s.axes(0))
    result = []
    for axis, pair in zip(x, s.out_sizes(), strict=True):
        if axis.sizes == pair:
            result.append(axis)
        else:
            s.pin(axis, "a resized axis")
            result.append(rigid(pair, f"space of {s.why}"))
    if s.has(3) and s.attr("axes") is None:
        s.restate(result, lambda cut: cut.set_sizes(s.index, 3, result))
    elif s.has(3):
        picked = [result[a] for a in s.integers("axes") or []]
        s.restate(picked, lambda cut: cut.set_sizes(s.index, 3, picked))
    s.out(result)


@rule("GridSample")
def grid_sample(s: Step) -> None:
    """Batch and channels pass."""
    x = feature_map(s)
    s.out([x[0], x[1], *space(s)])


@rule("RoiAlign", "MaxRoiPool")
def roi_align(s: Step) -> None:
    """Channels pass; the regions are rigid."""
    x = feature_map(s)
    s.pin(x[0], "the batch of regions")
    sizes = s.out_sizes()
    s.out([rigid(sizes[0], "regions"), x[1], *space(s)])


@rule("DepthToSpace")
def depth_to_space(s: Step) -> None:
    """Channels are (b, b, C') or (C', b, b); whole blocks of C' go."""
    x = feature_map(s)
    block = s.integer("blocksize", 1)
    inner = x[1].sizes[0] // (block * block)
    dcr = s.attr("mode", "DCR") == "DCR"
    parts = s.digits(x[1], [block * block, inner] if dcr else [inner, block * block])
    blocks, channels = (parts[0], parts[1]) if dcr else (parts[1], parts[0])
    s.pin(blocks, "positions inside a block become space")
    s.out([x[0], channels, *space(s)])


@rule("SpaceToDepth")
def space_to_depth(s: Step) -> None:
    """Output channels are (b*b, C): one channel gives b*b."""
    x = feature_map(s)
    block = s.integer("blocksize", 1)
    tiled = x[1] if x[1].is_rigid else of_rows(outer([s.rows(rigid(block * block)), s.rows(x[1])]))
    s.out([x[0], rigid(s.out_sizes()[1]) if x[1].is_rigid else tiled, *space(s)])
