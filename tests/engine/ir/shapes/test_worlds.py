"""Sample worlds: which numbers stand for symbolic sizes, and how they are mended when the graph contradicts them."""

import numpy as np
import pytest

from graphrewrite.ir import Builder, infer


def test_each_kind_of_axis_gets_its_own_numbers() -> None:
    b = Builder()
    image = b.input(["batch", 3, "height", "width"], "image")
    tokens = b.input(["batch", "time"], "tokens", np.int64)
    info = infer(b.model(b.relu(image), b.op("Neg", tokens), dtypes=[np.float32, np.int64]))

    assert info.samples == {"batch": (2, 3), "height": (64, 96), "width": (64, 96), "time": (8, 12)}
    assert info.sample_shapes(0) == {"image": (2, 3, 64, 64), "tokens": (2, 8)}
    assert info.sample_shapes(1) == {"image": (3, 3, 96, 96), "tokens": (3, 12)}


def test_channels_last_images_and_unnamed_axes() -> None:
    b = Builder()
    x = b.input([1, 2, 2, 3], "x")
    x.shape = [None, None, None, 3]
    info = infer(b.model(b.relu(x)))
    assert info.sample_shapes(1) == {"x": (3, 96, 96, 3)}
    assert set(info.samples) == {"x.0", "x.1", "x.2"}


def test_a_computed_size_follows_the_sizes_it_names() -> None:
    b = Builder()
    past = b.input(["batch", "past", 4], "past_states")
    mask = b.input(["batch", "past + 1"], "mask")
    info = infer(b.model(b.relu(past), b.relu(mask)))
    assert info.sample_shapes(0) == {"past_states": (2, 8, 4), "mask": (2, 9)}
    assert "past + 1" not in info.samples


def test_a_name_that_only_looks_computed_is_a_name() -> None:
    b = Builder()
    x = b.input(["batch-size", "a/b"], "x")
    info = infer(b.model(b.relu(x)))
    assert info.samples == {"batch-size": (2, 3), "a/b": (8, 12)}


def test_an_axis_that_meets_a_constant_gets_its_size() -> None:
    b = Builder()
    x = b.input(["batch", "time", 4], "x")
    y = b.add(x, b.weight(77, 4))
    info = infer(b.model(y))
    assert info.samples == {"batch": (2, 3), "time": (77, 77)}
    assert info.sizes(y.name, 1) == (3, 77, 4)


def test_a_size_behind_a_sum_is_solved_for() -> None:
    b = Builder()
    x = b.input(["batch", "time", 4], "x")
    longer = b.concat(
        x, x, b.constant(np.zeros((1, 3, 4), np.float32)), axis=1
    )  # 2 * time + 3 (batch 1 here)
    x.shape = [1, "time", 4]
    y = b.op("MatMul", longer, b.weight(4, 5))
    z = b.op("MatMul", b.constant(np.zeros((1, 6, 43), np.float32)), y)
    info = infer(b.model(z))
    assert info.samples == {"time": (20, 20)}
    assert info.sizes(z.name) == (1, 6, 5)


def test_windows_that_do_not_fit_make_the_axis_longer() -> None:
    b = Builder()
    x = b.input(["batch", 1, "samples"], "x")
    y = b.conv(x, out=4, into=1, kernel=[400], stride=160, pad=0)
    info = infer(b.model(y))
    # 8 and 12 are short of 400: times four until they fit.
    assert info.samples["samples"] == (512, 768)
    assert info.sizes(y.name, 0) == (2, 4, 1)


@pytest.mark.parametrize("size", [224, 28])
def test_a_fixed_image_size_behind_pools_is_found(size: int) -> None:
    b = Builder()
    x = b.input(["batch", 3, "height", "width"], "x")
    y = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    flat = b.op("Flatten", y)
    z = b.linear(flat, out=10, into=3 * (size // 2) ** 2)
    info = infer(b.model(z))
    assert info.sizes(x.name, 0) == (2, 3, size, size)


def test_a_size_must_be_a_multiple_of_what_it_is_split_by() -> None:
    b = Builder()
    x = b.input(["batch", "time"], "x")
    y = b.op("Reshape", x, b.constant(np.array([0, -1, 5])))
    info = infer(b.model(y))
    # 8 and 12 become the least multiples of themselves that five divides.
    assert info.samples == {"batch": (2, 3), "time": (40, 60)}
