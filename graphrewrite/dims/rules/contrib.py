"""What onnxruntime's own graph optimizer leaves behind: layers fused with their bias, activation, residual or norm.

Each is the standard operator with something before or after it, and ties what that ties. Attention is in
`fused_attention.py`, quantized operators are in `quantized.py`, packed weights in `packed.py`.
"""

from graphrewrite.dims.axes import ONE, Axis, of_rows, rigid
from graphrewrite.dims.ragged import LEAST_MEMBERS
from graphrewrite.dims.rules.conv import convolve, feature_map, kernel, space
from graphrewrite.dims.rules.elementwise import broadcast_axes
from graphrewrite.dims.rules.linear import gemm, product_of
from graphrewrite.dims.rules.norm import balance_norm, normalise
from graphrewrite.dims.sweep import Step, rule

MICROSOFT = "com.microsoft"


@rule("FastGelu", "Gelu", "QuickGelu", "BiasGelu", "BiasAdd", domain=MICROSOFT)
def activation(s: Step) -> None:
    """Activations, some with a bias along the last axis, and sums with a bias and a residual."""
    s.out(broadcast_axes(s, [s.axes(slot) for slot in range(len(s.node.inputs)) if s.has(slot)]))


@rule("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(s: Step) -> None:
    """The first half of the last axis times the activated second half: a unit is one position of each."""
    x = s.forced(s.axes(0))
    s.tie(x[-1], s.axes(1)[0])
    half = x[-1].sizes[0] // 2
    if x[-1].is_rigid:
        s.out([*x[:-1], rigid(half)])
        return
    first, second = (s.window(of_rows(s.rows(x[-1])[part])) for part in (slice(half), slice(half, None)))
    s.tie(first, second)
    s.out([*x[:-1], first])


@rule("FusedGemm", domain=MICROSOFT)
def fused_gemm(s: Step) -> None:
    """A Gemm with an activation behind it."""
    gemm(s)


@rule("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def fused_matmul(s: Step) -> None:
    """A matrix product whose operands may come with their rows first and their matrices transposed."""
    operands, inner = [], []
    for slot, name in enumerate("AB"):
        axes = s.forced(s.axes(slot))
        order = list(range(len(axes)))
        if s.integer(f"transBatch{name}", 0) and len(axes) > 2:
            order = [*order[1:-1], order[0], order[-1]]
        if s.integer(f"trans{name}", 0) and len(axes) > 1:
            order[-2:] = order[:-3:-1]
        operands.append([axes[i] for i in order])
        inner.append(order[-1] if name == "A" else order[max(len(order) - 2, 0)])
    product_of(s, operands[0], operands[1], places=(inner[0], inner[1]))


@rule("FusedConv", domain=MICROSOFT)
def fused_conv(s: Step) -> None:
    """A convolution with its activation and, before that, the sum with a fourth input."""
    _conv(s, channels_last=False)


@rule("NhwcConv", "NhwcFusedConv", domain=MICROSOFT)
def nhwc_conv(s: Step) -> None:
    """A convolution of a channels-last feature map; the weight is as ever."""
    _conv(s, channels_last=True)


def _conv(s: Step, channels_last: bool) -> None:
    x, w = feature_map(s, channels_last=channels_last), kernel(s, 1)
    convolve(s, 1, x, w, channel=len(x) - 1 if channels_last else 1)
    if s.has(2):
        s.tie(w[0], s.axes(2)[0])
    middle = space(s, channels_last=channels_last)
    out = [x[0], *middle, w[0]] if channels_last else [x[0], w[0], *middle]
    if s.has(3):
        for mine, other in zip(out, s.forced(s.axes(3)), strict=True):
            s.tie(mine, other)
    s.out(out)


@rule("NhwcMaxPool", domain=MICROSOFT)
def nhwc_pool(s: Step) -> None:
    """Batch and channels pass; channels are last."""
    x = feature_map(s, channels_last=True)
    s.out([x[0], *space(s, channels_last=True), x[1]])


@rule(
    "Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReorderInput", "ReorderOutput",
    "Upsample", domain="com.microsoft.nchwc",
)  # fmt: skip
def blocked(s: Step) -> None:
    """Channels in blocks, padded to whole vector registers of one machine: nothing to cut by."""
    why = "blocked layout; hand in the model before the layout optimisation"
    s.refuse(why, tell=True)
    s.out([rigid(pair, why) for pair in s.out_sizes()])


@rule("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_norm(s: Step) -> None:
    """A residual sum and its norm over the last axis; the sum itself may be the fourth output."""
    simple = s.node.op == "SkipSimplifiedLayerNormalization"
    vectors = range(2, 4 if simple else 5)  # gain, (offset,) bias of the sum
    operands = [s.forced(s.axes(slot)) for slot in (0, 1, *vectors) if s.has(slot)]
    x = broadcast_axes(s, operands)
    s.mix("skip_mean_square" if simple else "skip_moments", 0, {len(x) - 1: x[-1]})
    s.out(x)
    for output in (1, 2):
        s.out([*x[:-1], ONE], output)
    s.out(x, 3)


@rule("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_norm(s: Step) -> None:
    """Root-mean-square normalisation over the trailing axes."""
    x = s.forced(s.axes(0))
    normalise(s, x, s.integer("axis", -1) % len(x), (1,))
    s.out(x)


@rule("EmbedLayerNormalization", domain=MICROSOFT)
def embed_norm(s: Step) -> None:
    """Rows of two or three tables summed and normalised; their width is one axis."""
    embed(s)


def embed(s: Step) -> None:
    """Tie the tables of an embedding with the norm behind it and hand the sum over."""
    width = s.axes(2)[1]
    for slot in (2, 3, 4):
        if s.has(slot):
            rows, its = s.forced(s.axes(slot))
            s.pin(rows, "rows are looked up by values of the input")
            s.tie(width, its)
    for slot in (5, 6):
        if s.has(slot):
            s.tie(width, s.axes(slot)[0])
    tokens = [rigid(pair, "tokens") for pair in s.sizes(0)]
    s.mix("embed_moments", 2, {1: width})
    for output in (0, 2):
        s.out([*tokens, width], output)


@rule("GroupNorm", "SkipGroupNorm", domain=MICROSOFT)
def group_norm(s: Step) -> None:
    """Groups lose equally many channels, or die as a whole; a residual may be added before, an activation after."""
    x = s.forced(s.axes(0))
    last = len(x) - 1 if s.integer("channels_last", 1) else 1
    channels = x[last]
    for slot in (1, 2, 4):
        if s.has(slot):
            s.tie(channels, s.axes(slot)[0])
    if s.has(3):
        skip = s.forced(s.axes(3))
        s.tie(channels, skip[last] if len(skip) == len(x) else skip[-1])
    groups = s.integer("groups", 1)

    def as_product() -> None:
        group, _ = s.digits(channels, [groups, channels.sizes[0] // groups])
        s.restate([group], lambda cut: cut.set_attr(s.index, "groups", cut.count(group)))

    s.mix("fused_group_moments", 0, {i: axis for i, axis in enumerate(x) if i > 0})
    if channels.sizes[0] // groups >= LEAST_MEMBERS:
        balance_norm(s, "groups", channels, groups, as_product)
    else:
        as_product()
    s.out(x)
    s.out(x, 1)


@rule("RelativePositionBias", domain=MICROSOFT)
def relative_position_bias(s: Step) -> None:
    """A table [buckets, heads] looked up by distance: heads become an axis of [1, heads, queries, keys]."""
    heads = s.weight(0, free=(1,))[1]
    lengths: list[Axis] = [rigid(pair, "positions") for pair in s.out_sizes()[2:]]
    s.out([ONE, heads, *lengths])
