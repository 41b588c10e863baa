"""Which nodes only compute sizes, and so run on Python's numbers."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
from torch import fx

from graphrewrite.bridge import host
from graphrewrite.bridge.host import Numbers
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.value import Value
from graphrewrite.ir.domains import domain_name

if TYPE_CHECKING:
    from graphrewrite.bridge.build import Writer

_INT64 = np.dtype(np.int64)
_WHOLE: Mapping[int, np.dtype[np.generic]] = {
    onnx.TensorProto.INT64: _INT64,
    onnx.TensorProto.INT32: np.dtype(np.int32),
}
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Neg", "Equal", "Where"})


def on_host(writer: "Writer", site: Site) -> list[Value | None] | None:
    """Return the outputs of a node as numbers, or None when it works on tensors.

    That is: Shape and Size, and whatever of `host.HOST` reads such numbers and small integer constants only.
    """
    node = site.node
    if domain_name(node.domain):
        return None
    if node.op == "Shape":
        return [_shape(writer, site)]
    if node.op == "Size":
        value = site.inputs[0]
        assert value is not None
        return [Value("", numbers=writer.call(host.size, writer.tensor(value)), rank=0)]
    present = [value for value in site.inputs if value is not None]
    if (node.op not in host.HOST and node.op != "Split") or not any(
        v.numbers is not None and v.array is None for v in present
    ):
        return None
    if not all((value.numbers is not None and value.array is None) or value.is_small for value in present):
        return None
    if node.op == "Split":
        return _split(writer, site)
    settled = _settled(site, [value.numbers_rank for value in present])
    if settled is None:
        return None
    rank, kind, settings = settled
    arguments = [None if value is None else writer.numbers(value) for value in site.inputs]
    while arguments and arguments[-1] is None:
        arguments.pop()
    return [
        Value("", numbers=_computed(writer, host.HOST[node.op], *arguments, **settings), rank=rank, kind=kind)
    ]


def _shape(writer: "Writer", site: Site) -> Value:
    value = site.inputs[0]
    assert value is not None
    start, end = site.integer("start", 0), site.integer("end", sys.maxsize)
    sizes = writer.shape(value)
    if value.array is not None:
        return Value("", array=np.asarray(value.array.shape[start:end], np.int64))
    length = None if sizes is None else len(sizes[start:end])
    return Value("", numbers=writer.call(host.shape, writer.tensor(value), start, end), rank=1, length=length)


def _settled(
    site: Site, ranks: list[int | None]
) -> tuple[int, np.dtype[np.generic], dict[str, object]] | None:
    """Return rank and type of the result and the settings of the host's function; None when it must be a tensor."""
    op = site.node.op
    first = site.inputs[0]
    if None in ranks or first is None:
        return None
    known = [rank for rank in ranks if rank is not None]
    kind = first.kind_of_numbers
    if op in _ELEMENTWISE:
        if op == "Mod" and site.integer("fmod", 0):
            return None
        if op == "Where":
            chosen = site.inputs[1]
            assert chosen is not None
            kind = chosen.kind_of_numbers
        if op not in ("Where", "Equal") and kind.kind not in "iu":
            return None
        return max(known), np.dtype(bool) if op == "Equal" else kind, {}
    if op == "Identity":
        return known[0], kind, {}
    if op == "Cast":
        wanted = _WHOLE.get(site.integer("to", 0))
        return None if wanted is None or kind.kind not in "iu" else (known[0], wanted, {})
    if op == "Gather":
        return (known[1], kind, {}) if known[0] == 1 else None
    if op == "Concat":
        return (1, kind, {}) if all(rank == 1 for rank in known) else None
    if op == "Slice":
        return _slice(site, known, kind)
    if op == "Unsqueeze":
        return (1, kind, {}) if known[0] == 0 else None
    if op == "Squeeze":
        says = len(ranks) > 1 or "axes" in site.attributes
        return (0, kind, {}) if says or first.known_length == 1 else None
    if op == "Reshape":
        wanted_sizes = site.constant(1)
        if (
            wanted_sizes is None
            or wanted_sizes.size > 1
            or (known[0] == 0 and wanted_sizes.size and wanted_sizes[0] == 0)
        ):
            return None
        return int(wanted_sizes.size), kind, {}
    if op in ("ReduceProd", "ReduceSum"):
        keep = bool(site.integer("keepdims", 1))
        if site.integer("noop_with_empty_axes", 0) or known[0] != 1:
            return None
        return int(keep), kind, {"keepdims": keep}
    if op == "ConstantOfShape":
        return _filled(site)
    return None


def _slice(
    site: Site, ranks: list[int], kind: np.dtype[np.generic]
) -> tuple[int, np.dtype[np.generic], dict[str, object]] | None:
    if "starts" in site.attributes:  # before operator set 10
        starts, ends = site.integers("starts"), site.integers("ends")
        return (1, kind, {"starts": starts, "ends": ends}) if len(starts) == 1 else None
    return 1, kind, {}


def _filled(site: Site) -> tuple[int, np.dtype[np.generic], dict[str, object]] | None:
    """A vector of one value: its length is a vector of one number."""
    length = site.inputs[0]
    value = site.attributes.get("value")
    array = getattr(value, "values", value)
    if (
        length is None
        or length.known_length != 1
        or not isinstance(array, np.ndarray)
        or array.dtype not in _WHOLE.values()  # narrower types wrap round where Python's numbers do not
    ):
        return None
    return 1, array.dtype, {"value": int(array.reshape(-1)[0])}


def _split(writer: "Writer", site: Site) -> list[Value | None] | None:
    data, parts = site.inputs[0], site.constant(1)
    assert data is not None
    sizes = tuple(parts.tolist()) if parts is not None else site.integers("split")
    if not sizes and data.known_length is not None:
        count = len(site.node.outputs)
        each = -(-data.known_length // count)
        sizes = tuple(min(each, data.known_length - i * each) for i in range(count))
    if not sizes or data.numbers_rank != 1:
        return None
    ends = np.cumsum(sizes).tolist()
    return [
        Value("", numbers=_computed(writer, host.part, writer.numbers(data), end - size, end),
              rank=1, length=size, kind=data.kind_of_numbers)
        for size, end in zip(sizes, ends, strict=True)
    ]  # fmt: skip


def _computed(
    writer: "Writer", function: Callable[..., Numbers], *arguments: object, **settings: object
) -> fx.Node | Numbers:
    """Compute now what is known now; write a call otherwise."""
    if any(isinstance(argument, fx.Node) for argument in arguments):
        return writer.call(function, *arguments, **settings)
    return function(*arguments, **settings)
