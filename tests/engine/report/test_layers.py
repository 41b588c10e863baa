"""The table of layers before and after."""

import numpy as np
from onnx import parser

from graphrewrite.ir import Builder, Model
from graphrewrite.ir.edit import add_constant, set_input
from graphrewrite.ir.inline import inlined
from graphrewrite.report import layers


def net(hidden: int, second: str = "second") -> Model:
    b = Builder()
    x = b.input(["n", 3, 4, 4], name="x")
    wide = b.relu(b.conv(x, out=hidden, into=3, kernel=1, name="first"))
    narrow = b.conv(wide, out=4, into=hidden, kernel=1, name=second)
    pooled = b.op("Flatten", b.op("GlobalAveragePool", narrow))
    return b.model(b.linear(pooled, out=2, into=4, name="head"))


def test_a_cut_layer_is_paired_by_name_with_figures_worked_out_by_hand() -> None:
    first, second, head = layers(net(8), net(5), {"w_6[0]": "graph output"})
    assert (first.name, first.op, first.before, first.after) == ("first", "Conv", (8, 3, 1, 1), (5, 3, 1, 1))
    assert (first.channels_before, first.channels_after, first.why) == (8, 5, "")
    assert (first.macs_before, first.macs_after) == (8 * 3 * 16, 5 * 3 * 16)
    assert (first.params_before, first.params_after) == (8 * 3 + 8, 5 * 3 + 5)
    assert (second.before, second.after, second.channels_after) == ((4, 8, 1, 1), (4, 5, 1, 1), 4)
    assert second.why == "free to go, but the budget kept every channel"
    assert (head.op, head.channels_before, head.macs_before) == ("Gemm", 2, 8)


def test_the_reason_of_a_pin_is_found_by_weight_and_axis() -> None:
    before = net(8)
    weight = before.nodes("Gemm")[0].inputs[1].name
    assert layers(before, before, {f"{weight}[0]": "graph output y"})[-1].why == "graph output y"
    partly = {f"{weight}[0] (1 of 2 positions)": "half of it is an output"}
    assert layers(before, before, partly)[-1].why == "half of it is an output"
    assert layers(before, before, {f"{weight}[1]": "the other axis"})[-1].why.startswith("free")


def test_a_renamed_node_is_found_by_its_weight() -> None:
    assert layers(net(8), net(5, second="folded"), {})[1].after == (4, 5, 1, 1)


def test_a_pin_is_found_under_the_name_a_rewrite_gave_the_weight() -> None:
    before, after = net(8), net(8)
    gemm = after.nodes("Gemm")[0]
    old = gemm.inputs[1].name
    set_input(gemm, 1, add_constant(after.graph, "folded", np.asarray(after.weights[old])))
    gemm.name = "other"
    after.origin["folded"] = (old, "folded")
    assert layers(before, after, {"folded[0]": "graph output y"})[-1].why == "graph output y"


def test_layers_inside_functions_are_seen_once_they_are_written_out() -> None:
    body = parser.parse_function(
        '<domain: "local", opset_import: ["" : 17]> Twice (x, w) => (y) { h = MatMul(x, w)  y = MatMul(h, w) }'
    )
    b = Builder()
    x = b.input([2, 3], name="x")
    model = b.model(b.op("Twice", x, b.weight(3, 3, name="w"), name="call", domain="local"))
    model.functions.append(body)
    assert [(row.op, row.weight, row.macs_before) for row in layers(model, inlined(model), {})] == [
        ("MatMul", "w", 18),
        ("MatMul", "w", 18),
    ]


def test_a_layer_that_is_gone_is_said_to_be() -> None:
    b = Builder()
    empty = b.model(b.relu(b.input(["n", 3, 4, 4], name="x")))
    first, *_ = layers(net(8), empty, {})
    assert (first.after, first.channels_after, first.macs_after) == (None, 0, 0)


def test_channels_of_transposed_and_plain_products() -> None:
    b = Builder()
    x = b.input([1, 6, 4, 4], name="x")
    up = b.op("ConvTranspose", x, b.weight(6, 5, 2, 2), name="up", group=2)
    flat = b.op("Flatten", up)
    first = b.op("MatMul", flat, b.weight(10 * 25, 7), name="mat")
    model = b.model(b.op("Gemm", first, b.weight(7, 3), name="gemm"))
    assert [(row.name, row.channels_before) for row in layers(model, model, {})] == [
        ("up", 10),
        ("mat", 7),
        ("gemm", 3),
    ]
