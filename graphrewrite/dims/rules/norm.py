"""Normalisations: positionwise in some axes, statistics (mixing) over others."""

from collections.abc import Callable

from graphrewrite.dims.axes import Axis
from graphrewrite.dims.ragged import LEAST_MEMBERS, mix_members, seen_in_groups
from graphrewrite.dims.sweep import Balance, Step, rule


@rule("BatchNormalization")
def batch_norm(s: Step) -> None:
    """Channels follow four vectors; with batch statistics everything else is mixed."""
    x = s.forced(s.axes(0))
    channel = x[1] if len(x) > 1 else x[0]
    for slot in range(1, 5):
        s.tie(channel, s.axes(slot)[0])
    s.out(x)
    trains = s.integer("training_mode", 0) == 1 or (
        s.opset < 14 and len([t for t in s.node.outputs if t.name]) > 1
    )
    if trains:
        # Below opset 14 extra outputs mean batch statistics in onnxruntime: exporters write weight standardisation so.
        if any(len(tensor.outputs) for tensor in s.node.outputs[1:]):
            s.refuse("the batch statistics are read elsewhere")
            return
        for output in range(1, len(s.node.outputs)):
            s.out([channel], output)
        s.mix("batch_statistics", 0, {i: axis for i, axis in enumerate(x) if i != 1})


@rule("InstanceNormalization")
def instance_norm(s: Step) -> None:
    """Channels follow scale and bias; statistics run over space, or over the members of a group and its space."""
    x = s.axes(0)
    vectors = [s.axes(slot)[0] for slot in (1, 2)]

    def as_product() -> None:
        forced = s.forced(x)
        for vector in vectors:
            s.tie(forced[1], vector)
        s.mix("moments", 0, {i + 2: axis for i, axis in enumerate(forced[2:])})

    found = seen_in_groups(x)
    if found is not None and (found[1].outer, found[1].inner, found[1].lead) == (1, 2, 1):
        mix_members(s, found, "moments", as_product, (1, 2))
        s.out(x)
        return
    as_product()
    s.out(s.forced(x))


@rule("LayerNormalization", "RMSNormalization")
def layer_norm(s: Step) -> None:
    """Statistics run over the trailing axes, which follow scale and bias."""
    x = s.forced(s.axes(0))
    normalise(s, x, s.integer("axis", -1) % len(x), (1, 2))
    s.out(x)
    for output in range(1, len(s.node.outputs)):
        s.out(
            [*x[: s.integer("axis", -1) % len(x)], *s.ones(len(x) - s.integer("axis", -1) % len(x))], output
        )


@rule("SimplifiedLayerNormalization")
def simplified_layer_norm(s: Step) -> None:
    """The runtime's name for root-mean-square normalisation in the default domain."""
    x = s.forced(s.axes(0))
    normalise(s, x, s.integer("axis", -1) % len(x), (1,))
    s.out(x)


def normalise(s: Step, x: list[Axis], first: int, slots: tuple[int, ...]) -> None:
    """Tie scale and bias to the normalised axes and record the statistics."""
    for slot in slots:
        if s.has(slot):
            vector = s.axes(slot)
            for back in range(1, len(vector) + 1):
                if vector[-back].sizes != (1, 1):
                    s.tie(x[-back], vector[-back])
    kind = "moments" if s.node.op == "LayerNormalization" else "mean_square"
    s.mix(kind, 0, {i: axis for i, axis in enumerate(x) if i >= first})


@rule("GroupNormalization")
def group_norm(s: Step) -> None:
    """Groups die as a whole or lose the same slots; scale and bias have a value per channel (21) or per group (18)."""
    x = s.forced(s.axes(0))
    groups = s.integer("num_groups", 1)
    per_channel = all(s.axes(slot)[0].sizes == x[1].sizes for slot in (1, 2))
    if per_channel:
        for slot in (1, 2):
            s.tie(s.axes(slot)[0], x[1])

    def as_product() -> None:
        group, _ = s.digits(x[1], [groups, x[1].sizes[0] // groups])
        if not per_channel:
            for slot in (1, 2):
                s.tie(s.axes(slot)[0], group)
        s.restate([group], lambda cut: cut.set_attr(s.index, "num_groups", cut.count(group)))

    s.mix("group_moments", 0, {1: x[1], **{i + 2: axis for i, axis in enumerate(x[2:])}})
    if per_channel and x[1].sizes[0] // groups >= LEAST_MEMBERS:
        balance_norm(s, "num_groups", x[1], groups, as_product)
    else:
        as_product()
    s.out(x)


def balance_norm(
    s: Step, attribute: str, channels: Axis, groups: int, as_product: Callable[[], None]
) -> None:
    """Let every group that lives keep equally many channels, or else do `as_product`; `attribute` counts groups."""
    balances = [Balance(channels, groups, s.index)]

    def as_balance() -> None:
        s.restate([channels], lambda cut: cut.set_groups(s.index, attribute, balances))

    s.balance(balances, as_balance, as_product)


@rule("Softmax", "LogSoftmax")
def softmax(s: Step) -> None:
    """The axis is normalised (before opset 13: all axes from it on)."""
    x = s.axes(0)
    first = s.integer("axis", -1 if s.opset >= 13 else 1) % len(x)
    mixed = range(first, len(x)) if s.opset < 13 else [first]
    if s.analysis.tied is None or any(x[i].digits for i in mixed):
        x = s.forced(x)
    s.mix("softmax", 0, {i: x[i] for i in mixed})
    s.out(x)


@rule("LpNormalization")
def lp_norm(s: Step) -> None:
    """Divided by a norm over one axis; a masked position adds nothing to it."""
    x = s.forced(s.axes(0))
    axis = s.integer("axis", -1) % len(x)
    s.mix("zero", 0, {axis: x[axis]})
    s.out(x)


@rule("LRN")
def lrn(s: Step) -> None:
    """Every channel is divided by the energy of its neighbours; a removed one has none."""
    x = s.forced(s.axes(0))
    s.neighbours(1, x[1])
    s.out(x)


@rule("MeanVarianceNormalization", "Hardmax")
def pinned_axes(s: Step) -> None:
    """The worked axes stay whole."""
    x = s.forced(s.axes(0))
    default = [0, 2, 3] if s.node.op == "MeanVarianceNormalization" else [s.integer("axis", -1)]
    for axis in s.integers("axes") or default:
        if -len(x) <= axis < len(x):
            s.pin(x[axis], "statistics over this axis are not followed")
    s.out(x)
