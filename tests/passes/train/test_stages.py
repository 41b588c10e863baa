"""The last feature map of each size, where everything passes."""

import pytest

from graphrewrite import models
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.train.stages import last_maps
from tests.methods.residual import net as residual_net
from tests.passes.train.nets import net


def sums(model: Model) -> list[str]:
    """The rectified sums of a net's blocks."""
    return [node.outputs[0].name for node in model.nodes("Relu") if node.inputs[0].inputs[0].op == "Add"]


def test_of_a_residual_net_they_are_the_sums_of_its_stages() -> None:
    model = residual_net()
    assert last_maps(model) == tuple(sums(model))


def test_the_order_of_the_file_does_not_matter() -> None:
    model = residual_net()
    model.graph.nodes.reverse()
    assert last_maps(model) == tuple(sums(residual_net()))


def test_a_tensor_beside_the_way_does_not_count() -> None:
    """The last map of full size in the file lies in a branch; everything passes the stem, and the sum."""
    b = Builder()
    stem = b.conv(b.input(["N", 1, 8, 8], "x"), 4, 1, name="stem")
    one = b.conv(b.conv(stem, 4, 4, name="beside"), 4, 4, stride=2, name="one")
    total = b.op("Add", one, b.conv(stem, 4, 4, stride=2, name="other"), name="sum")
    assert last_maps(b.model(total)) == ("stem_out", "sum_out")


def test_sizes_may_be_open() -> None:
    b = Builder()
    x = b.input(["N", 1, "h", "w"], "x")
    fine = b.conv(b.relu(x), 4, 1, name="fine")
    coarse = b.conv(fine, 4, 4, stride=2, name="coarse")
    assert last_maps(b.model(b.op("GlobalAveragePool", coarse))) == ("fine_out", "coarse_out")


def test_a_shipped_net_has_them() -> None:
    found = last_maps(Model.load(models.shipped("digits_resnet")))
    assert len(found) == 3


def test_a_net_without_maps_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="no feature map"):
        last_maps(net())
