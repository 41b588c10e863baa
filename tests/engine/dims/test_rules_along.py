"""Rules of operators that work along some axes: those stay, the others shrink."""

import numpy as np
import pytest

from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn

cases = Cases()


def hidden(d: Drawing, width: int = 6, name: str = "w") -> Drawn:
    """Draw a hidden layer over three steps."""
    return d.matmul(d.input(2, 3, 4), d.floats(4, width, name=name))


def head(d: Drawing, x: Drawn) -> Drawn:
    """Read the last axis."""
    return d.matmul(x, d.floats(x.size(-1), 3, name="last"))


@cases.add("6: last[0] w[1]", symbolic=[False])
def steps_in_reverse(d: Drawing) -> Drawn:
    x = hidden(d)
    lengths = d.const(np.array([3, 2], np.int64))
    return head(d, d.op("ReverseSequence", x, lengths, shape=x.shape, batch_axis=0, time_axis=1))


@cases.add(pins={"w[1]": "in their order"}, symbolic=[False], moves=False)
def features_in_reverse(d: Drawing) -> Drawn:
    x = hidden(d)
    lengths = d.const(np.array([6, 2], np.int64))
    return head(d, d.op("ReverseSequence", x, lengths, shape=x.shape, batch_axis=0, time_axis=2))


@cases.add("6: last[0] w[1]", opsets=[17, 20], symbolic=[False])
def transform_along_the_steps(d: Drawing) -> Drawn:
    """[batch, steps, features, real part] -> the same with real and imaginary part, of which both are read."""
    x = d.unsqueeze(hidden(d), 3)
    shape = (*x.shape[:3], 2)
    if d.style.opset >= 20:
        y = d.op("DFT", x, None, d.const(np.array(1, np.int64)), shape=shape)
    else:
        y = d.op("DFT", x, shape=shape, axis=1)
    return head(d, d.transpose(y, 0, 1, 3, 2))


@cases.add(pins={"w[1]": "in their order"}, opsets=[20], symbolic=[False], moves=False)
def transform_along_the_axis_before_the_last(d: Drawing) -> Drawn:
    """What opset 20 does when no axis is given."""
    x = d.unsqueeze(hidden(d), 3)
    y = d.op("DFT", x, shape=(*x.shape[:3], 2))
    return head(d, d.transpose(y, 0, 1, 3, 2))


@cases.add("6: last[0] w[1]", opsets=[18], symbolic=[False])
def middle_of_the_steps(d: Drawing) -> Drawn:
    """Five steps of three, padded at both ends."""
    y = d.op("CenterCropPad", hidden(d), d.const(np.array([5], np.int64)), shape=(2, 5, 6), axes=[1])
    return head(d, y)


@cases.add("6: last[0] w[1]", symbolic=[False])
def determinants(d: Drawing) -> Drawn:
    """A 2 x 2 matrix for each feature."""
    x = d.matmul(d.input(2, 4, 4), d.floats(4, 6, name="w"))
    return head(d, d.op("Det", d.reshape(d.transpose(x, 0, 2, 1), 2, 6, 2, 2), shape=(2, 6)))


@cases.add("3: last[0] w[0]*4", opsets=[18], symbolic=[False])
def columns_to_an_image(d: Drawing) -> Drawn:
    """Three channels of 2 x 2 blocks: a block's places stay together."""
    x = d.matmul(d.floats(12, 5, name="w"), d.input(2, 5, 4))
    size, block = (d.const(np.array(values, np.int64)) for values in ([4, 4], [2, 2]))
    y = d.op("Col2Im", x, size, block, shape=(2, 3, 4, 4), strides=[2, 2])
    return head(d, d.transpose(y, 0, 2, 3, 1))


@cases.add("6: last[0] m[2] w[1]", opsets=[24], symbolic=[False])
def entries_of_a_stored_memory(d: Drawing) -> Drawn:
    """Three new steps go into a memory of seven, from step 1 and from step 4 on."""
    memory, places = d.floats(2, 7, 6, name="m"), d.const(np.array([1, 4], np.int64))
    return head(d, d.op("TensorScatter", memory, hidden(d), places, shape=(2, 7, 6)))


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)
