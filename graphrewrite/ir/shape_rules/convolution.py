"""Convolutions and pools: windows sliding over the axes after the first two."""

from graphrewrite.ir.shape_rules.call import INT32, INT64, Call, Shape, Unknown, shape_rule
from graphrewrite.ir.sizes import ceil_div, minimum, note_equal, product
from graphrewrite.ir.symbols import Dim, Sym, floor_div


def window(call: Call, space: Shape, kernel: Shape | list[int], *, ceil: bool = False) -> list[Dim]:
    """Return the spatial sizes after sliding windows of size `kernel` by strides, dilations, pads or auto_pad."""
    rank = len(space)
    strides = call.integers("strides") or [1] * rank
    dilations = call.integers("dilations") or [1] * rank
    pads = call.integers("pads") or [0] * (2 * rank)
    auto = call.text("auto_pad", "NOTSET")
    out: list[Dim] = []
    for axis, size in enumerate(space):
        stride = strides[axis]
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            out.append(ceil_div(size, stride))
            continue
        before, after = (0, 0) if auto == "VALID" else (pads[axis], pads[rank + axis])
        slack = before + after - reach
        if stride == 1:
            steps = size + (slack + 1)
        elif not ceil:
            steps = floor_div(size + slack, stride) + 1
        else:
            steps = ceil_div(size + slack, stride) + 1
            if isinstance(reach, Sym) or after + stride > reach:
                # The last window has to start on the image or its left padding.
                steps = minimum(steps, floor_div(size + (before - 1), stride) + 1)
        out.append(fitting(call, steps))
    return out


def fitting(call: Call, size: Dim) -> Dim:
    """Note a size that is not positive in a sample world: the input sizes tried are too small for the graph."""
    if isinstance(size, Sym):
        first, second = size.sample
        if (first is not None and first < 1) or (second is not None and second < 1):
            call.sweep.symbols.too_small = True
    return size


@shape_rule("Conv")
def conv(call: Call) -> None:
    """[batch, channels, space], weight [out, in/group, kernel]."""
    x = call.known(0)
    w = call.shape(1)
    kernel = call.integers("kernel_shape") or (w[2:] if w is not None else None)
    if kernel is None:
        raise Unknown
    channels = call.unknown() if w is None else w[0]
    if w is not None:
        note_equal(x[1], w[1] * call.integer("group", 1))
    call.put(0, (x[0], channels, *window(call, x[2:], kernel)))


@shape_rule("ConvInteger", "QLinearConv")
def integer_conv(call: Call) -> None:
    """Like Conv; the type is int32, or that of the output's zero point."""
    quantized = call.node.op == "QLinearConv"
    call.put(0, None, call.dtype(7) if quantized else INT32)
    x, w = call.known(0), call.known(3 if quantized else 1)
    kernel = call.integers("kernel_shape") or w[2:]
    call.put(0, (x[0], w[0], *window(call, x[2:], kernel)))


@shape_rule("DeformConv")
def deform_conv(call: Call) -> None:
    """Like Conv."""
    x, w = call.known(0), call.known(1)
    call.put(0, (x[0], w[0], *window(call, x[2:], call.integers("kernel_shape") or w[2:])))


@shape_rule("MaxPool", "AveragePool", "LpPool")
def pool(call: Call) -> None:
    """[batch, channels, space]; MaxPool may also give the indices."""
    x = call.known(0)
    kernel = call.integers("kernel_shape")
    if kernel is None:
        raise Unknown
    shape = (x[0], x[1], *window(call, x[2:], kernel, ceil=bool(call.integer("ceil_mode", 0))))
    call.put(0, shape)
    call.put(1, shape, INT64)


@shape_rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(call: Call) -> None:
    """Every axis after the first two becomes 1."""
    x = call.known(0)
    call.put(0, (*x[:2], *(1 for _ in x[2:])))


@shape_rule("ConvTranspose")
def conv_transpose(call: Call) -> None:
    """Weight [in, out/group, kernel]; the output size may be given outright."""
    x, w = call.known(0), call.known(1)
    note_equal(x[1], w[0])
    rank = len(x) - 2
    kernel = call.integers("kernel_shape") or w[2:]
    strides = call.integers("strides") or [1] * rank
    dilations = call.integers("dilations") or [1] * rank
    extra = call.integers("output_padding") or [0] * rank
    pads = call.integers("pads") or [0] * (2 * rank)
    auto = call.text("auto_pad", "NOTSET")
    given = call.integers("output_shape")
    space: list[Dim] = []
    for axis in range(rank):
        if given:
            space.append(given[axis - rank])
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            space.append(x[2 + axis] * strides[axis])
        else:
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            cut = 0 if auto == "VALID" else pads[axis] + pads[rank + axis]
            space.append(fitting(call, (x[2 + axis] - 1) * strides[axis] + reach + extra[axis] - cut))
    call.put(0, (x[0], w[1] * call.integer("group", 1), *space))


@shape_rule("MaxUnpool")
def max_unpool(call: Call) -> None:
    """Undo a pool; the output shape may be an input."""
    x = call.known(0)
    if call.has(2):
        call.put(0, call.ints(2))
        return
    kernel = call.integers("kernel_shape")
    if kernel is None:
        raise Unknown
    rank = len(kernel)
    strides, pads = call.integers("strides") or [1] * rank, call.integers("pads") or [0] * (2 * rank)
    space = [(x[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i] for i in range(rank)]
    call.put(0, (*x[:2], *space))


@shape_rule("Col2Im")
def col2im(call: Call) -> None:
    """[batch, channels * block, windows] to [batch, channels, image]."""
    x = call.known(0)
    image, block = call.ints(1), call.ints(2)
    if image is None or block is None:
        raise Unknown
    call.put(0, (x[0], floor_div(x[1], product(block)), *image))
