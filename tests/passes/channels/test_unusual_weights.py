"""Channel removal where weights are of other types, or lie in other places than initializers of the file."""

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import helper

from graphrewrite import cost
from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.check import check
from graphrewrite.ir.edit import redirect
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from graphrewrite.passes.channels.reconstruct import reconstructions
from graphrewrite.pipeline import Context
from graphrewrite.runtime import run
from tests.passes.channels.nets import (
    NETS,
    cut,
    details,
    floats,
    kept_told,
    proved,
    samples,
    tower,
    values,
    without,
)

LEAST_SQUARES = reconstructions.make("least_squares")

# ------------------------------------------------------------------------------------------------------- other types


def converted(model: Model, dtype: type[np.generic]) -> Model:
    """Let a model compute in another float type."""
    copy = model.clone()
    for name, array in list(copy.weights.items()):
        if array.dtype == np.float32:
            copy.weights[name] = array.astype(dtype)
    for tensor in (*copy.graph.inputs, *copy.graph.outputs):
        tensor.dtype = np.dtype(dtype)
    return copy


@pytest.mark.parametrize(
    ("dtype", "net", "shape"), [(np.float16, "tower", (16, 3, 6, 6)), (np.float64, "attention", (16, 5, 6))]
)
@pytest.mark.parametrize("compensation", ["nothing", "mean", "least squares"])
def test_half_and_double_precision(
    dtype: type[np.generic], net: str, shape: tuple[int, ...], compensation: str
) -> None:
    model = converted(NETS[net](), dtype)
    data = ArraySource({"x": np.random.default_rng(0).standard_normal(shape).astype(dtype)})
    step = RemoveChannels(
        budget=MacsBelow(0.5),
        absorb=compensation != "nothing",
        reconstruct=LEAST_SQUARES if compensation == "least squares" else None,
    )

    result = cut(model, step, Context(data=data))

    proved(result)
    assert {a.dtype for a in result.model.weights.values() if a.dtype.kind == "f"} == {np.dtype(dtype)}
    assert bool(details(result)["compensated"]) is (compensation != "nothing")


def test_constants_of_half_precision_are_absorbed() -> None:
    b = Builder(seed=2)
    w = b.rng.standard_normal((6, 3))
    w[[1, 4]] = 0
    y = b.relu(
        b.op(
            "Gemm",
            b.input(["N", 3], "x"),
            b.constant(floats(w), "made"),
            b.constant(floats(range(6))),
            transB=1,
        )
    )
    model = converted(
        b.model(b.op("Gemm", y, b.constant(floats(b.rng.standard_normal((4, 6))), "read"), transB=1)),
        np.float16,
    )

    smaller = without(model, (1, 4))

    x = np.random.default_rng(1).standard_normal((9, 3)).astype(np.float16)
    (want,), (got,) = (run(each, {"x": x}).values() for each in (model, smaller))
    assert (
        np.abs(want.astype(np.float64) - got.astype(np.float64)).max() / np.abs(want.astype(np.float64)).max()
        < 4e-3
    )


# --------------------------------------------------------------------------------------------------- where weights lie


def in_nodes(model: Model) -> Model:
    """Move every initializer into a Constant node."""
    copy = model.clone()
    for name, array in list(copy.weights.items()):
        out = gs.Variable(f"{name}.value", array.dtype, list(array.shape))
        made = gs.Node("Constant", f"make {name}", {"value": gs.Constant("", array)}, [], [out])
        redirect(copy.graph, copy.graph.initializers[name], out)
        del copy.weights[name]
        copy.graph.nodes.insert(0, made)
    return copy


def as_inputs(model: Model) -> Model:
    """List every initializer among the graph inputs, as files before IR version 4 must."""
    proto = model.to_proto()
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    return Model.from_proto(proto)


@pytest.mark.parametrize("net", ["tower", "residual", "grouped", "attention"])
@pytest.mark.parametrize("home", [in_nodes, as_inputs])
def test_the_home_of_weights_does_not_matter(home: "object", net: str) -> None:
    plain = NETS[net]()
    model = home(plain)  # type: ignore[operator]
    step = RemoveChannels(budget=MacsBelow(0.5), reconstruct=LEAST_SQUARES)

    one, two = (cut(m, step, Context(data=samples(m), threads=1)) for m in (plain, model))

    proved(two)
    assert details(one)["macs_after"] == details(two)["macs_after"]
    assert details(one)["params_after"] == details(two)["params_after"]
    source = samples(plain, 5, seed=4)
    np.testing.assert_allclose(
        values(two.model, source)[0], values(one.model, source)[0], rtol=1e-4, atol=1e-5
    )


def in_newer_format(model: Model) -> onnx.ModelProto:
    """Raise the IR version to one in which being listed among the inputs is a choice."""
    proto = model.to_proto()
    proto.ir_version = 8
    return proto


def test_an_initializer_that_was_an_input_is_none_after_it_was_cut() -> None:
    """A caller that overrides it would bring the old shape."""
    model = Model.from_proto(in_newer_format(as_inputs(tower())))

    result = cut(model, RemoveChannels(budget=Ratio(0.5)))

    listed = {tensor.name for tensor in result.model.graph.inputs}
    assert not listed & set(kept_told(result))
    check(result.model)


def test_external_data_is_cut_and_saved_beside_the_model(tmp_path: Path) -> None:
    model = tower((32, 48))
    onnx.save_model(
        model.to_proto(),
        tmp_path / "in.onnx",
        save_as_external_data=True,
        location="in.bin",
        size_threshold=0,
    )
    loaded = Model.load(tmp_path / "in.onnx")

    result = cut(loaded, RemoveChannels(budget=MacsBelow(0.5)))
    result.model.save(tmp_path / "out.onnx")

    proved(result)
    again = Model.load(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").exists()
    assert cost.of(again).macs <= 0.5 * cost.of(model).macs
    source = samples(model, 3)
    np.testing.assert_array_equal(values(again, source)[0], values(result.model, source)[0])
    np.testing.assert_array_equal(
        values(Model.load(tmp_path / "in.onnx"), source)[0], values(model, source)[0]
    )


def test_siamese_branches_share_one_cut() -> None:
    """Two inputs through the same weights; what goes from one branch goes from the other."""
    b = Builder(seed=5)
    one, two = b.input(["N", 4], "one"), b.input(["N", 4], "two")
    w, v = b.weight(8, 4, name="w"), b.weight(6, 8, name="v")
    bias = b.constant(floats(b.rng.standard_normal(8)), "bias")
    branches = [
        b.relu(b.op("Gemm", b.relu(b.op("Gemm", x, w, bias, transB=1)), v, transB=1)) for x in (one, two)
    ]
    model = b.model(b.linear(b.op("Sub", *branches), 2, 6, name="head"))

    result = cut(model, RemoveChannels(budget=Ratio(0.5), absorb=False))

    proved(result)
    shapes = {name: result.model.weights[name].shape for name in ("w", "bias", "v")}
    assert shapes == {"w": (4, 4), "bias": (4,), "v": (3, 4)}
    assert details(result)["copied_from"] == {}
    assert len([node for node in result.model.nodes("Gemm") if node.inputs[1].name == "w"]) == 2
