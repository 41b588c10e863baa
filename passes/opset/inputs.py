"""Adapters for attributes that became inputs."""

import numpy as np

from graphrewrite.passes.opset.site import Site, Table, Unfit
from graphrewrite.passes.tidy.reading import source

TABLE = Table()
_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSumSquare"),
)


@TABLE.to(9, "Upsample")
def scales(site: Site) -> None:
    """Hand the scales in."""
    site.put(1, np.asarray(site.take("scales"), np.float32), "scales")


@TABLE.to(10, "Slice")
def slices(site: Site) -> None:
    """Hand starts, ends and axes in."""
    for place, name in enumerate(("starts", "ends", "axes"), 1):
        site.ints_to_input(name, place)


@TABLE.to(10, "TopK")
def count(site: Site) -> None:
    """Hand the count in, as a vector of one."""
    site.put(1, np.asarray([site.take("k")], np.int64), "k")


@TABLE.to(11, "Clip")
def bounds(site: Site) -> None:
    """Hand the ends in, in the type of what is cut."""
    for place, name in enumerate(("min", "max"), 1):
        value = site.take(name)
        if value is not None:
            site.put(place, _like(site, value), name)


@TABLE.to(11, "Pad")
def pads(site: Site) -> None:
    """Hand in how far, and with what unless it is zero."""
    site.ints_to_input("pads", 1)
    value = site.take("value")
    if value:
        site.put(2, _like(site, value), "value")


@TABLE.to(12, "Dropout")
def ratio(site: Site) -> None:
    """Hand in the ratio, which matters to those that train."""
    value = site.take("ratio")
    if value is not None:
        site.put(1, np.asarray(value, np.float32), "ratio")


@TABLE.to(13, "Split")
def split(site: Site) -> None:
    """Hand the sizes in."""
    site.ints_to_input("split", 1)


@TABLE.to(18, "Split")
def parts(site: Site) -> None:
    """Say how many equal parts there are, where no sizes are given."""
    if source(site.node, 1) is None:
        site.node.attrs["num_outputs"] = len(site.node.outputs)


def axes(site: Site) -> None:
    """Hand the axes in."""
    site.ints_to_input("axes", 1)


TABLE.to(13, "Squeeze", "Unsqueeze", "ReduceSum")(axes)
TABLE.to(18, *_REDUCTIONS)(axes)


@TABLE.to(20, "DFT")
def axis(site: Site) -> None:
    """Hand the axis in: where none is given it was 1 and is the one before the last."""
    value = site.take("axis")
    site.put(2, np.asarray(1 if value is None else value, np.int64), "axis")


def _like(site: Site, value: object) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    dtype = site.dtype(site.node.inputs[0])
    if dtype is None:
        raise Unfit(
            f"the type of {site.node.inputs[0].name!r} is not known, and its new inputs have that type"
        )
    return np.asarray(value, np.float64).astype(dtype)
