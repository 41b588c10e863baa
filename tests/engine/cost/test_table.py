"""Rows, totals and the lists of what could not be counted."""

import time

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from graphrewrite import cost
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model


def test_rows_follow_the_graph_and_totals_sum_them() -> None:
    b = Builder()
    x = b.input([1, 3, 8, 8])
    y = b.relu(b.batchnorm(b.conv(x, out=4, into=3, name="conv"), 4, name="bn"))
    table = cost.of(b.model(y))

    conv, norm, relu = table.nodes
    assert (conv.name, conv.op, conv.macs, conv.ops, conv.params) == ("conv", "Conv", 256 * 27, 0, 108 + 4)
    assert (norm.macs, norm.ops, norm.params, norm.weight_bytes) == (0, 512, 16, 64)
    assert (relu.ops, relu.params, relu.activation_bytes) == (256, 0, 1024)
    assert (table.total("macs"), table.total("ops"), table.total("params")) == (6912, 768, 128)
    assert table.weight_bytes == 512 and table.activation_bytes == 3 * 1024
    assert list(table.by_op("ops")) == ["BatchNormalization", "Relu", "Conv"]
    assert not table.unknown and not table.unsized and not table.notes()


def test_resnet_18_has_its_published_size() -> None:
    """11,689,512 parameters (He et al. 2016, as torchvision counts them) and the sum of its convolutions."""
    b = Builder()

    def unit(x: gs.Tensor, into: int, out: int, kernel: int, stride: int) -> gs.Variable:
        return b.batchnorm(b.conv(x, out, into, kernel, stride=stride, bias=False), out)

    x = b.relu(unit(b.input(["N", 3, 224, 224]), 3, 64, 7, 2))
    x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    into = 64
    for out, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            y = unit(b.relu(unit(x, into, out, 3, stride)), out, out, 3, 1)
            x = b.relu(b.add(y, unit(x, into, out, 1, stride) if stride != 1 else x))
            into = out
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    table = cost.of(b.model(b.linear(x, 1000, 512)))

    stem = 64 * 3 * 49 * 112**2
    plain = 64 * 64 * 9 * 56**2  # the same in every stage: twice the channels, half the pixels each way
    stage = plain // 2 + 3 * plain + 64 * 128 * 28**2
    assert table.batch == 2
    assert table.per_sample("macs") == stem + 4 * plain + 3 * stage + 512 * 1000 == 1_814_073_344
    running = 2 * (
        64 + 4 * 64 + 3 * 5 * 0 + 5 * (128 + 256 + 512)
    )  # mean and variance, which torch does not count
    assert table.params == 11_689_512 + running


def test_shared_weights_count_once_in_totals_and_for_every_reader_in_rows() -> None:
    b = Builder()
    w = b.weight(4, 4)
    x = b.input([2, 4])
    table = cost.of(b.model(b.op("MatMul", b.op("MatMul", x, w), w)))
    assert [row.params for row in table.nodes] == [16, 16]
    assert (table.params, table.weight_bytes, table.macs) == (16, 64, 64)


def test_a_constant_node_is_a_weight_like_an_initializer() -> None:
    b = Builder()
    w = b.op("Constant", value=gs.Constant("", np.ones((4, 5), np.float32)))
    scale = b.op("Constant", value_float=2.0)
    table = cost.of(b.model(b.op("Mul", b.op("MatMul", b.input([2, 4]), w), scale)))
    assert (table.params, table.weight_bytes) == (21, 84)


def test_shapes_indices_and_settings_are_no_parameters() -> None:
    b = Builder()
    x = b.op("Reshape", b.input([2, 4]), b.constant(np.array([4, 2])))
    x = b.op("Clip", x, b.constant(np.float32(0)), b.constant(np.float32(6)))
    x = b.op("Gather", x, b.constant(np.array([0, 1])), axis=0)
    x = b.op("Where", b.constant(np.array([[True, False]])), x, x)
    assert cost.of(b.model(x)).params == 0


def test_quantized_weights_count_elements_and_packed_bytes() -> None:
    b = Builder(opset=21, ir_version=10)
    w = b.constant(np.ones((6, 5)).astype(ml_dtypes.int4))
    floats = b.op("DequantizeLinear", w, b.constant(np.float32(0.1)))
    table = cost.of(b.model(b.op("MatMul", b.input([2, 6]), floats)))
    assert (table.params, table.weight_bytes) == (30 + 1, 15 + 4)

    b = Builder(opset=21, ir_version=10)
    eight = b.constant(np.ones((2, 3, 1, 1), np.int8))
    x, scale, zero = (
        b.input([1, 3, 4, 4], dtype=np.uint8),
        b.constant(np.float32(0.1)),
        b.constant(np.uint8(0)),
    )
    ints = b.constant(np.int8(0))
    bias = b.constant(np.ones(2, np.int32))
    y = b.op("QLinearConv", x, scale, zero, eight, scale, ints, scale, zero, bias)
    table = cost.of(b.model(y, dtypes=[np.uint8]))
    # weight 6 x 1 byte, bias 2 x 4, one shared scale 4, zero points 1 + 1
    assert (table.params, table.weight_bytes) == (6 + 2 + 1 + 2, 6 + 8 + 4 + 2)
    assert table.activation_bytes == 2 * 16


def test_bytes_that_hold_several_numbers_are_unpacked() -> None:
    b = Builder()
    blob = b.constant(np.zeros((6, 1, 16), np.uint8))
    y = b.op(
        "MatMulNBits",
        b.input([2, 32]),
        blob,
        b.weight(6),
        domain="com.microsoft",
        N=6,
        K=32,
        bits=4,
        block_size=32,
    )
    table = cost.of(b.model(y))
    assert (table.params, table.weight_bytes) == (6 * 32 + 6, 96 + 24)


def test_sparse_weights_count_what_is_stored() -> None:
    values = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    indices = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [3], [0, 5, 7])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 4])],
    )
    graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [4, 4]))
    model = Model.from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]))
    table = cost.of(model)
    assert (table.params, table.weight_bytes, table.macs) == (3, 12 + 24, 32)


def test_coefficients_in_attributes_are_parameters() -> None:
    b = Builder()
    y = b.op(
        "LinearRegressor",
        b.input([5, 4]),
        domain="ai.onnx.ml",
        coefficients=[0.5] * 8,
        intercepts=[1.0, 2.0],
        targets=2,
    )
    table = cost.of(b.model(y))
    assert (table.params, table.weight_bytes, table.macs) == (10, 40, 40)


def test_an_operator_without_a_rule_is_listed_with_its_nodes() -> None:
    b = Builder()
    x = b.input([1, 4])
    y = b.op("Strange", b.op("Strange", x, domain="acme", name="one"), domain="acme", name="two")
    table = cost.of(b.model(b.relu(y)))
    assert table.unknown == {"acme.Strange": ("one", "two")}
    assert [name for name, _ in table.notes()][:2] == ["one", "two"]
    assert "no cost rule" in table.nodes[0].note


def test_an_uncounted_operator_is_listed_with_its_reason() -> None:
    b = Builder(opset=20)
    x = b.input([10], dtype=np.uint8)
    table = cost.of(b.model(b.op("ImageDecoder", x, name="read"), dtypes=[np.uint8]))
    assert table.unknown == {"ImageDecoder": ("read",)}
    assert "picture" in table.nodes[0].note


def test_a_node_without_known_sizes_is_listed() -> None:
    b = Builder()
    x = b.op("Strange", b.input([1, 4]), domain="acme")
    table = cost.of(b.model(b.op("MatMul", x, b.weight(4, 4), name="product")))
    assert "product" in table.unsized and table.macs == 0
    assert "not known" in table.nodes[1].note


def test_a_sequence_takes_the_memory_of_what_it_is_made_of() -> None:
    b = Builder()
    x = b.input([4, 6])  # 96 bytes
    parts = b.op("SplitToSequence", x, b.constant(np.array([2, 4])), axis=1)
    more = b.op("SequenceInsert", parts, x)
    pair = b.op("SequenceConstruct", x, x)
    empty = b.op("SequenceEmpty")
    table = cost.of(b.model(x, more, pair, empty))
    assert [row.activation_bytes for row in table.nodes] == [96, 192, 192, 0]
    assert not table.unsized


def test_the_symbolic_batch_is_divided_out_and_weights_are_not() -> None:
    b = Builder()
    table_a, table_b = (
        cost.of(model, world=world)
        for model in [b.model(b.linear(b.input(["N", 6]), 4, 6))]
        for world in (0, 1)
    )
    assert (table_a.batch, table_b.batch) == (2, 3)
    assert (table_a.macs, table_b.macs) == (48, 72)
    for table in (table_a, table_b):
        assert table.per_sample("macs") == 24
        assert table.per_sample("params") == 28
        assert table.per_sample("activation_bytes") == 16
        assert table.per_sample("peak_bytes") == 24 + 16
    assert table_b.inputs == {"x_1": (3, 6)}


def test_a_fixed_batch_is_left_as_it_is() -> None:
    b = Builder()
    table = cost.of(b.model(b.linear(b.input([8, 6]), 4, 6)))
    assert table.batch == 1 and table.per_sample("macs") == table.macs == 8 * 24


def test_peak_memory_of_a_residual_block() -> None:
    # 4-byte numbers; x 100, a 200, b 200 (x and b alive until the sum), c 100, sum 100
    b = Builder()
    x = b.input([1, 25])
    h = b.op("Relu", b.linear(x, 50, 25))
    y = b.add(b.linear(h, 25, 50), x)
    table = cost.of(b.model(y))
    # at Relu: x + a + b = 500, more than at any other node
    assert table.peak_bytes == 500
    assert table.activation_bytes == 200 + 200 + 100 + 100


def test_a_view_shares_memory_and_keeps_it_alive() -> None:
    b = Builder()
    x = b.input([4, 25])
    a = b.relu(x)  # 400 bytes
    flat = b.op("Reshape", a, b.constant(np.array([100])))
    wide = b.op("Tile", b.input([10], name="z"), b.constant(np.array([10])))  # z 40, wide 400
    table = cost.of(b.model(b.add(flat, wide)))
    # at the sum: a (through its view) 400, wide 400, sum 400; x is long gone, z too
    assert table.peak_bytes == 1200
    copy = b.graph.nodes[1]
    copy.op = (
        "Transpose"  # no view any more: nothing changes at the sum, but a and its copy overlap before it
    )
    del copy.inputs[1]
    assert cost.of(b.model(b.graph.outputs[0])).peak_bytes == 1200
    assert table.activation_bytes == 4 * 400


def test_outputs_stay_alive_to_the_end() -> None:
    b = Builder()
    x = b.input([1, 25])
    first = b.relu(x)
    second = b.relu(first)
    third = b.relu(second)
    assert cost.of(b.model(third)).peak_bytes == 200
    assert cost.of(b.model(first, third)).peak_bytes == 300


def test_a_rule_of_ones_own_is_used_and_a_second_one_is_refused() -> None:
    @cost.macs_rule("Mystery", domain="test.rules")
    def mystery(site: cost.Site) -> int:
        return site.output_count() * site.attr("taps", 1)

    b = Builder()
    y = b.op("Relu", b.op("Mystery", b.relu(b.input([2, 3])), domain="test.rules", taps=5))
    model = b.model(y)
    b.graph.nodes[1].outputs[0].shape, b.graph.nodes[1].outputs[0].dtype = [2, 3], np.dtype(np.float32)
    proto_round = Model.from_proto(model.to_proto())
    assert cost.of(proto_round).macs == 30
    with pytest.raises(InvalidConfig, match=r"test.rules.Mystery has a cost rule already"):
        cost.macs_rule("Mystery", domain="test.rules")(mystery)
    with pytest.raises(InvalidConfig, match="Conv has a cost rule already"):
        cost.moves(["Conv"])


def test_counting_costs_microseconds_per_node() -> None:
    # alone on the reference machine 12 to 15; the limit leaves room for a busy one and still catches a quadratic walk
    b = Builder()
    h = b.input(["N", 8, 8, 8])
    for _ in range(3000):
        h = b.relu(b.add(b.conv(h, 8, 8, kernel=1), h))
    model = b.model(h)
    from graphrewrite.ir.shapes import infer

    info = infer(model)
    started = time.process_time()
    cost.of(model, info)
    assert (time.process_time() - started) / len(model.nodes()) < 60e-6
