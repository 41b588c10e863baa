"""`infer` on drawn graphs, with shapes worked out by hand."""

import numpy as np

from graphrewrite.ir import Builder, Sym, infer


def test_a_strided_convolution_halves_symbolic_space() -> None:
    b = Builder()
    x = b.input(["batch", 3, "height", "width"])
    y = b.conv(x, out=8, into=3, stride=2)
    info = infer(b.model(y))

    batch, channels, height, width = info.shape(y.name) or ()
    assert (str(batch), channels, str(height), str(width)) == (
        "batch",
        8,
        "(height + 1)//(2)",
        "(width + 1)//(2)",
    )
    # Worlds: batch 2 and 3, space 64 and 96, halved.
    assert info.sizes(y.name, 0) == (2, 8, 32, 32)
    assert info.sizes(y.name, 1) == (3, 8, 48, 48)
    assert info.sample_shapes(1) == {x.name: (3, 3, 96, 96)}


def test_a_flatten_written_as_shape_gather_concat_reshape_keeps_the_batch() -> None:
    b = Builder()
    x = b.input(["batch", 4, 5])
    first = b.op("Gather", b.op("Shape", x), b.constant(np.array([0])), axis=0)
    target = b.op("Concat", first, b.constant(np.array([-1])), axis=0)
    y = b.op("Reshape", x, target)
    info = infer(b.model(y))

    shape = info.shape(y.name)
    assert shape is not None and isinstance(shape[0], Sym) and shape[0].name == "batch" and shape[1] == 20
    value = info.numbers(target.name, world=1)
    assert value is not None and value.tolist() == [3, -1]


def test_contents_are_never_a_value() -> None:
    b = Builder()
    x = b.input(["batch"], dtype=np.int64)
    y = b.op("Add", x, b.constant(np.array([1])))
    info = infer(b.model(y, dtypes=[np.int64]))

    assert info.value(x.name) is None and info.value(y.name) is None
    assert info.dtype(y.name) == np.int64
