"""Adapters for operators that say the same in other words, or mean something else, from some version on."""

import numpy as np

from graphrewrite.passes.opset.site import Site, Table, Unfit
from graphrewrite.passes.tidy.reading import text

TABLE = Table()


@TABLE.to(9, "Scan")
def scan(site: Site) -> None:
    """Refuse: it had a batch axis and lengths of its own."""
    raise Unfit("a Scan went over a batch in operator set 8, and has no form for it since")


@TABLE.to(10, "Upsample")
def resize(site: Site) -> None:
    """Call it Resize."""
    site.node.op = "Resize"


@TABLE.to(10, "Dropout")
def mask(site: Site) -> None:
    """Leave out the mask, whose type changes."""
    site.only_first_output("its mask is read, which had numbers and has true and false since")


@TABLE.to(11, "Resize")
def positions(site: Site) -> None:
    """Say how positions were found: onnxruntime went down to the position below, up to it where it shrinks."""
    scales, factors = site.node.inputs[1], site.value(1)
    if text(site.node, "mode", "nearest") == "nearest":
        if factors is None:
            raise Unfit("its scales are computed, and which neighbour is the nearest hangs on them")
        shrinks, grows = np.min(factors.astype(float)) < 1, np.max(factors.astype(float)) > 1
        if shrinks and grows:
            raise Unfit("it shrinks one axis and stretches another, with one way to find the nearest")
        site.node.attrs["nearest_mode"] = "ceil" if shrinks else "floor"
    site.node.attrs["coordinate_transformation_mode"] = "asymmetric"
    site.put(1, np.zeros(0, np.float32), "roi")
    site.node.inputs.append(scales)


@TABLE.to(13, "Resize")
def halves(site: Site) -> None:
    """Refuse the one way to find positions that went."""
    if text(site.node, "coordinate_transformation_mode", "half_pixel") == "tf_half_pixel_for_nn":
        raise Unfit("it finds positions by tf_half_pixel_for_nn, which there is not since")


@TABLE.to(11, "Scatter")
def scatter(site: Site) -> None:
    """Call it ScatterElements."""
    site.node.op = "ScatterElements"


@TABLE.to(13, "Softmax", "LogSoftmax", "Hardmax")
def along(site: Site) -> None:
    """Take all axes from one on as one, as it did: by its own axis where that is the same, else flattened."""
    shape, axis = site.shape(), site.whole("axis", 1)
    if shape is not None:
        axis = axis % len(shape) if shape else 0
        if all(size == 1 for size in shape[axis + 1 :]):
            site.node.attrs["axis"] = axis
            return
    if axis == -1:
        return
    node, x = site.node, site.node.inputs[0]
    (out,) = node.outputs
    node.inputs[0] = site.writer.op("Flatten", x, axis=axis)
    sizes = site.writer.op("Shape", x)
    flat = site.writer.variable("flat")
    flat.dtype = out.dtype
    node.attrs["axis"] = -1
    node.outputs[0] = flat
    made = len(site.writer.made)
    maker = site.writer.op("Reshape", flat, sizes).inputs[0]
    maker.outputs[0] = out
    site.behind += site.writer.made[made:]
    del site.writer.made[made:]


@TABLE.to(14, "BatchNormalization")
def statistics(site: Site) -> None:
    """Say that it takes the mean and variance of what it reads: to ask for statistics was to ask for that."""
    if any(not out.is_empty() for out in list(site.node.outputs)[1:]):
        site.only_first_output("its statistics are read, which have another form since")
        site.node.attrs["training_mode"] = 1  # which asks for all outputs
        site.node.outputs += [site.writer.variable("mean"), site.writer.variable("var")]


@TABLE.to(16, "RoiAlign")
def corners(site: Site) -> None:
    """Say that positions are not moved by half a pixel."""
    site.node.attrs["coordinate_transformation_mode"] = "output_half_pixel"


@TABLE.to(20, "GridSample")
def modes(site: Site) -> None:
    """Call the ways between pixels by their new names."""
    mode = text(site.node, "mode", "bilinear")
    site.node.attrs["mode"] = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)


@TABLE.to(21, "GroupNormalization")
def repeated(site: Site) -> None:
    """Give every channel the scale and the bias of its group."""
    shape, groups = site.shape(), site.whole("num_groups", 1)
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    if not isinstance(channels, int):
        raise Unfit("the number of its channels is not known, and each has a scale since")
    for place, stem in ((1, "scale"), (2, "bias")):
        values = site.value(place)
        if values is None:
            raise Unfit(f"its {stem} is computed, and each channel has one since")
        site.put(place, np.repeat(values, channels // groups), stem)
