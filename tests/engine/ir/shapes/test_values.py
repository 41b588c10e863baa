"""Values that hang on sizes only: followed through the arithmetic exporters write, symbolic where sizes are."""

import numpy as np
import onnx
import pytest

from graphrewrite.ir import Builder, Model, Sym, infer
from graphrewrite.ir.symbols import Real


def texts(info_value: object) -> list[str]:
    assert isinstance(info_value, np.ndarray)
    return [str(item) for item in info_value.reshape(-1).tolist()]


def test_heads_times_dim_cancels_in_a_reshape() -> None:
    b = Builder()
    x = b.input(["batch", "time", 64])
    sizes = b.op("Shape", x)
    head = b.op(
        "Slice", sizes, b.constant(np.array([0])), b.constant(np.array([2])), b.constant(np.array([0]))
    )
    width = b.op("Gather", sizes, b.constant(np.array([2])), axis=0)
    dim = b.op("Div", width, b.constant(np.array([4])))
    target = b.op("Concat", head, b.constant(np.array([4])), dim, axis=0)
    split = b.op("Reshape", x, target)
    turned = b.op("Transpose", split, perm=[0, 2, 1, 3])
    flat = b.op("Reshape", turned, b.constant(np.array([-1, 16])))
    info = infer(b.model(flat))

    assert texts(info.value(target.name)) == ["batch", "time", "4", "16"]
    # batch * 4 * time * 16 elements in rows of 16
    assert [str(dim) for dim in info.shape(flat.name) or ()] == ["4*batch*time", "16"]
    # Worlds: batch 2 and 3, time 8 and 12.
    assert info.sizes(flat.name, 0) == (64, 16) and info.sizes(flat.name, 1) == (144, 16)


@pytest.mark.parametrize(
    ("op", "number", "expected"),
    [
        ("Add", 3, ("time + 3", 11, 15)),
        ("Sub", 8, ("time - 8", 0, 4)),
        ("Mul", -2, ("-2*time", -16, -24)),
        ("Div", 3, ("(time)//(3)", 2, 4)),
        ("Mod", 5, ("-5*(time)//(5) + time", 3, 2)),
        ("Min", 10, ("-positive(time - 10) + time", 8, 10)),
        ("Max", 10, ("positive(time - 10) + 10", 10, 12)),
    ],
)
def test_integer_arithmetic_on_a_size(op: str, number: int, expected: tuple[str, int, int]) -> None:
    b = Builder()
    x = b.input(["batch", "time"])
    size = b.op("Gather", b.op("Shape", x), b.constant(np.array(1)), axis=0)
    y = b.op(op, size, b.constant(np.array(number)))
    info = infer(b.model(y, dtypes=[np.int64]))

    assert texts(info.value(y.name)) == [expected[0]]
    assert [int(info.numbers(y.name, world)) for world in (0, 1)] == list(expected[1:])  # type: ignore[arg-type]


def test_a_comparison_that_is_open_is_a_size_of_one_or_zero() -> None:
    b = Builder()
    x = b.input(["batch", "time"])
    size = b.op("Gather", b.op("Shape", x), b.constant(np.array(1)), axis=0)
    certain = b.op("Greater", size, b.constant(np.array(0)))
    open_ = b.op("Equal", size, b.constant(np.array(8)))
    chosen = b.op("Where", open_, b.constant(np.array(5)), size)
    info = infer(b.model(certain, chosen, dtypes=[np.bool_, np.int64]))

    assert info.dtype(open_.name) == np.bool_ and info.dtype(chosen.name) == np.int64
    value = info.value(certain.name)
    assert value is not None and value.dtype == np.bool_ and bool(value)
    undecided = info.value(open_.name)
    assert undecided is not None and isinstance(undecided.reshape(-1)[0], Sym)
    # time is 8 in world 0 and 12 in world 1
    assert [bool(info.numbers(open_.name, world)) for world in (0, 1)] == [True, False]
    assert [int(info.numbers(chosen.name, world)) for world in (0, 1)] == [5, 12]  # type: ignore[arg-type]


def test_an_expand_written_with_where_equal_minus_one() -> None:
    b = Builder()
    x = b.input(["batch", 3])
    token = b.constant(np.zeros((1, 1, 3), dtype=np.float32))
    batch = b.op("Gather", b.op("Shape", x), b.constant(np.array([0])), axis=0)
    wanted = b.op("Concat", batch, b.constant(np.array([-1, -1])), axis=0)
    ones = b.op("ConstantOfShape", b.constant(np.array([3])), value=one_of(np.int64(1)))
    free = b.op("Equal", wanted, b.op("Mul", ones, b.constant(np.array(-1))))
    y = b.op("Expand", token, b.op("Where", free, ones, wanted))
    info = infer(b.model(y))

    # batch is at least one, so it is certainly not -1
    assert [str(dim) for dim in info.shape(y.name) or ()] == ["batch", "1", "3"]


def one_of(number: np.generic) -> object:
    import onnx_graphsurgeon as gs

    return gs.Constant("", np.array([number]))


def test_a_scale_computed_in_floats_gives_exact_sizes() -> None:
    b = Builder()
    x = b.input(["batch", 3, "height", "width"])
    sizes = b.op("Slice", b.op("Shape", x), b.constant(np.array([2])), b.constant(np.array([4])))
    wide = b.op(
        "Mul", b.op("Cast", sizes, to=onnx.TensorProto.FLOAT), b.constant(np.array([1.5, 2.0], np.float32))
    )
    new = b.op("Cast", b.op("Floor", wide), to=onnx.TensorProto.INT64)
    rest = b.op("Slice", b.op("Shape", x), b.constant(np.array([0])), b.constant(np.array([2])))
    y = b.op("Resize", x, None, None, b.op("Concat", rest, new, axis=0), mode="nearest")
    info = infer(b.model(y))

    assert [str(dim) for dim in info.shape(y.name) or ()] == [
        "batch",
        "3",
        "(height)//(2) + height",
        "2*width",
    ]
    assert info.sizes(y.name, 0) == (2, 3, 96, 128)
    floats = info.value(wide.name)
    assert floats is not None and isinstance(floats[0], Real) and floats[0].sample == (96.0, 144.0)


def test_a_root_of_a_size_is_known_in_both_worlds_only() -> None:
    b = Builder()
    x = b.input(["batch", "time"])
    count = b.op("Gather", b.op("Shape", x), b.constant(np.array(0)), axis=0)
    root = b.op("Sqrt", b.op("Cast", count, to=onnx.TensorProto.FLOAT))
    info = infer(b.model(root))

    # The batch is 2 and 3.
    for world in (0, 1):
        assert info.numbers(root.name, world) == pytest.approx(np.sqrt(2 + world))


def test_lengths_that_hang_on_contents_are_unknown_but_consistent() -> None:
    b = Builder(opset=18)
    x = b.input([4, 4])
    found = b.op("NonZero", x)
    pairs = b.op("Transpose", found, perm=[1, 0])
    twice = b.op("Concat", pairs, pairs, axis=0)
    info = infer(b.model(twice, dtypes=[np.int64]))

    rank, count = info.shape(found.name) or (None, None)
    assert rank == 2 and isinstance(count, Sym) and count.sample == (None, None)
    assert (info.shape(twice.name) or ())[0] is count * 2
    assert info.sizes(twice.name) is None


def test_a_target_read_from_contents_leaves_its_own_axes_known() -> None:
    b = Builder()
    x = b.input(["batch", 8])
    rows = b.input([1], "rows", np.int64)
    target = b.op("Concat", rows, b.constant(np.array([2])), axis=0)
    y = b.op("Reshape", x, target)
    info = infer(b.model(y))

    shape = info.shape(y.name)
    assert shape is not None and len(shape) == 2
    assert info.value(target.name) is None and info.value("rows") is None


def test_weights_have_values_only_while_they_are_small() -> None:
    b = Builder()
    x = b.input([1, 8])
    y = b.op("MatMul", x, b.weight(8, 600, name="large"))
    z = b.op("Add", y, b.weight(600, name="medium"))
    model = b.model(z)
    info = infer(model)

    assert info.shape("large") == (8, 600) and info.value("large") is None  # 4800 elements
    medium = info.value("medium")
    assert medium is not None and medium is model.weights["medium"]
    assert info.dtype("large") == np.float32


def test_an_initializer_listed_as_an_input_counts_as_constant() -> None:
    target = onnx.helper.make_tensor("target", onnx.TensorProto.INT64, [2], [2, 6])
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Reshape", ["x", "target"], ["y"])],
        "g",
        [value("x", onnx.TensorProto.FLOAT, [3, 4]), value("target", onnx.TensorProto.INT64, [2])],
        [value("y", onnx.TensorProto.FLOAT, None)],
        [target],
    )
    info = infer(
        Model.from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]))
    )
    assert info.shape("y") == (2, 6)
