"""What is a block and what is not, on nets where that is known by construction."""

from collections.abc import Callable

import pytest

from graphrewrite import cost
from graphrewrite.ir import Builder, Model
from tests.passes.blocks.drawn import (
    NETS,
    basic,
    blocks_of,
    gated,
    inverted,
    names,
    nested,
    resnet,
    shuffled,
    transformer,
    viewed,
)


def layers(*parts: str) -> list[str]:
    return [f"sum{n}{part}" for n in range(3) for part in parts]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (resnet, ["a0", "a1", "a2", "b0", "b1", "b2"]),  # the projection's shortcut is a layer: no block
        (inverted, ["inverted", "context"]),
        (nested, ["inner0", "inner1", "outer", "long"]),
        (viewed, ["viewed"]),
        (transformer, layers(".attention", ".mlp")),
        (lambda: transformer(style="post"), layers(".attention", ".mlp")),
        (lambda: transformer(style="parallel"), layers("", "#2")),
        (gated, ["three", "three#2", "difference", "gated"]),
    ],
)
def test_the_blocks_of_a_net_are_those_it_was_drawn_with(
    build: Callable[[], Model], expected: list[str]
) -> None:
    assert names(build()) == expected


def test_a_shortcut_that_moves_channels_is_no_block_and_is_told() -> None:
    found = blocks_of(shuffled())

    assert [block.name for block in found] == ["plain"]
    assert found.left == {"shuffled": "its shortcut from 'stem_out' moves channels about"}


def test_a_block_knows_what_is_its_own() -> None:
    """By hand: two convolutions of 6 to 6 channels, 3x3, on 8x8, at batch 2; weights, biases, two norms."""
    first = blocks_of(resnet()).blocks[0]

    assert first.macs == 2 * 2 * 64 * 6 * 6 * 9
    assert first.params == 2 * (6 * 6 * 9 + 6) + 2 * 4 * 6
    assert (first.trunk, first.branch, first.result) == ("relu_3_out", "a0.norm_out", "a0_out")
    assert first.axis == 1 and len(first.nodes) == 5 and len(first.weights) == 2 * 2 + 2 * 4


def test_streams_are_stages() -> None:
    assert [block.stream for block in blocks_of(resnet())] == ["stem_out"] * 3 + ["projection_out"] * 3


@pytest.mark.parametrize("net", ["pre", "post", "parallel", "hidden"])
def test_a_transformer_is_one_stream(net: str) -> None:
    """Also where the stream is pinned because it is an output."""
    assert len({block.stream for block in blocks_of(NETS[net]())}) == 1


def test_blocks_lie_in_blocks() -> None:
    found = blocks_of(nested())

    assert [block.inside for block in found] == [2, 2, 3, None]
    assert found.within(3) == [0, 1, 2, 3] and found.within(2) == [0, 1, 2] and found.within(0) == [0]
    outer, long = found.blocks[2], found.blocks[3]
    assert set(outer.nodes) < set(long.nodes) and outer.macs < long.macs


def test_what_others_read_stays_and_is_named() -> None:
    """Keys that are outputs of the model: the layers that make them are not the block's own."""
    plain, cached = blocks_of(transformer()).blocks[0], blocks_of(transformer(cached=True)).blocks[0]

    assert plain.shared == () and cached.shared == ("attention0.keys_out",)
    assert plain.macs - cached.macs == 2 * 5 * 8 * 8


def test_a_branch_that_others_read_whole_is_no_block() -> None:
    b = Builder()
    x = b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3)
    branch = b.conv(b.relu(x), 4, 4)
    y = b.op("Add", x, branch, name="sum")
    assert names(b.model(b.conv(y, 2, 4), b.conv(branch, 2, 4))) == []


def test_two_branches_of_one_tensor_are_no_block() -> None:
    """Neither is computed from the other: leaving one out would leave the other alone on a stage of its own."""
    b = Builder()
    x = b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3)
    y = b.op("Add", b.conv(x, 4, 4), b.conv(b.relu(x), 4, 4), name="sum")
    assert names(b.model(b.conv(y, 2, 4))) == []


def test_a_trunk_that_is_broadcast_is_no_trunk() -> None:
    """The sum is larger than what the branch was computed from."""
    b = Builder()
    x = b.conv(b.op("GlobalAveragePool", b.input(["N", 3, 6, 6], "x")), 4, 3, kernel=1)
    wide = b.op("Resize", b.conv(x, 4, 4, kernel=1), None, b.constant([1.0, 1.0, 6.0, 6.0]), mode="nearest")
    assert names(b.model(b.op("Add", x, wide, name="sum"))) == []


def test_inputs_from_elsewhere_do_not_matter() -> None:
    """A time embedding enters the branch: it is computed from another input."""
    b = Builder()
    x = b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3)
    time = b.linear(b.input(["N", 7], "time"), 4, 7)
    time = b.op("Unsqueeze", time, b.constant([2, 3]))
    y = b.op("Add", x, b.conv(b.op("Add", b.conv(x, 4, 4), time, name="shift"), 4, 4), name="sum")
    assert names(b.model(b.conv(y, 2, 4))) == ["sum"]


def test_dead_nodes_do_not_hide_a_block() -> None:
    b = Builder()
    x = b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3)
    y = basic(b, x, 4, "block")
    b.relu(next(node for node in b.graph.nodes if node.name == "block.norm").outputs[0])
    assert names(b.model(b.conv(y, 2, 4))) == ["block"]


@pytest.mark.parametrize("net", NETS)
def test_what_a_block_holds_is_what_goes_when_it_is_left_out(net: str) -> None:
    """The slow way: disconnect one block, drop what nothing depends on, count again."""
    from graphrewrite.passes.blocks.cut import without

    model = NETS[net]()
    whole = cost.of(model)
    found = blocks_of(model)
    for block in found:
        left = cost.of(without(found, [block]))

        assert whole.macs - left.macs == block.macs
        assert whole.params - left.params == block.params
