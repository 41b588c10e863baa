"""Channel removal on models that are not written the plain way."""

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import helper

from graphrewrite import cost
from graphrewrite.data import ArraySource
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.check import check
from graphrewrite.ir.edit import redirect
from graphrewrite.passes.channels import MacsBelow, ParamsBelow, Ratio, RemoveChannels
from graphrewrite.passes.channels.criteria import criteria
from graphrewrite.passes.channels.reconstruct import reconstructions
from graphrewrite.pipeline import Context
from graphrewrite.pipeline.manager import PipelineResult
from graphrewrite.runtime import run
from tests.passes.channels.nets import (
    NETS,
    attention,
    cut,
    details,
    floats,
    kept_told,
    residual,
    samples,
    tower,
    values,
    without,
)

LEAST_SQUARES = reconstructions.make("least_squares")


def proved(result: PipelineResult, worlds: int = 2) -> None:
    """Check that something was cut and that it was compared with its reference."""
    (step,) = result.report.steps
    assert result.changed and step.verified.how == "reference" and len(step.verified.worlds) == worlds
    assert step.verified.movement is not None and step.verified.movement > 1e-3


# --------------------------------------------------------------------------------------------------- local functions


def in_functions(data: ParamsBelow | None = None) -> Model:
    """Two layers, each in a call of one model-local function; weights come in as its inputs."""
    body = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    layer = helper.make_function("my", "Layer", ["x", "w", "b"], ["y"], body, [helper.make_opsetid("", 17)])
    rng = np.random.default_rng(3)
    shapes = {"w0": (8, 5), "b0": (8,), "w1": (6, 8), "b1": (6,), "w2": (3, 6)}
    graph = helper.make_graph(
        [
            helper.make_node("Layer", ["x", "w0", "b0"], ["h0"], name="call0", domain="my"),
            helper.make_node("Layer", ["h0", "w1", "b1"], ["h1"], name="call1", domain="my"),
            helper.make_node("Gemm", ["h1", "w2"], ["y"], name="head", transB=1),
        ],
        "calls",
        [helper.make_tensor_value_info("x", 1, ["N", 5])],
        [helper.make_tensor_value_info("y", 1, ["N", 3])],
        [onnx.numpy_helper.from_array(floats(rng.standard_normal(s)), n) for n, s in shapes.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    return Model.from_proto(helper.make_model(graph, opset_imports=opsets, functions=[layer], ir_version=8))


def test_layers_inside_local_functions_are_cut() -> None:
    model = in_functions()

    result = cut(
        model, RemoveChannels(budget=Ratio(0.5), reconstruct=LEAST_SQUARES), Context(data=samples(model))
    )

    proved(result)
    assert {name: result.model.weights[name].shape for name in ("w0", "w1", "w2")} == {
        "w0": (4, 5),
        "w1": (3, 4),
        "w2": (3, 3),
    }
    told = details(result)
    # Counted alike before and after: a call costs what its function does.
    assert told["macs_before"] == cost.of(model).per_sample("macs") == 5 * 8 + 8 * 6 + 6 * 3
    assert told["macs_after"] == cost.of(result.model).per_sample("macs") == 5 * 4 + 4 * 3 + 3 * 3


def test_a_function_can_be_left_whole_by_the_name_of_its_call() -> None:
    result = cut(in_functions(), RemoveChannels(budget=Ratio(0.5), skip=("call1/*",)))

    assert not {"w0", "w1", "w2"} & set(kept_told(result)) or result.changed is False


def test_an_unchanged_model_keeps_its_functions() -> None:
    result = cut(in_functions(), RemoveChannels(budget=Ratio(1.0)))

    assert result.changed is False
    assert [node.op for node in result.model.graph.nodes] == ["Layer", "Layer", "Gemm"]


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


# ------------------------------------------------------------------------------------------------- unknown operators


def custom(silent: bool = False) -> Model:
    """A product before an operator nobody knows, and two behind it."""
    b = Builder(seed=12)
    w = b.rng.standard_normal((6, 5))
    if silent:
        w[2] = 0
    y = b.op(
        "Gemm",
        b.input(["N", 5], "x"),
        b.constant(floats(w), "before"),
        b.constant(floats(range(6))),
        transB=1,
        name="one",
    )
    y = b.relu(b.op("Gemm", b.relu(y), b.weight(4, 6, name="into"), transB=1, name="two"))
    y = b.op("Mystery", y, domain="some.where", name="mystery", strength=3)
    y = b.relu(b.op("MatMul", y, b.weight(4, 8, name="out of"), name="three"))
    return b.model(b.op("MatMul", y, b.weight(8, 2, name="head"), name="four"))


def test_what_touches_an_unknown_operator_stays_and_the_rest_is_cut() -> None:
    model = custom()

    result = cut(model, RemoveChannels(budget=Ratio(0.5)))

    kept = kept_told(result)
    assert kept.keys() >= {"before", "into"} and "0" not in kept["into"]
    pinned = details(result)["pinned"]
    assert isinstance(pinned, dict)
    assert "no dimension rule for Mystery of domain some.where" in str(pinned["into[0]"])
    (node,) = result.model.nodes("Mystery")
    assert (node.domain, node.attrs["strength"]) == ("some.where", 3)
    (step,) = result.report.steps
    notes = {note.subject: note.text for note in step.notes}
    assert notes["some.where.Mystery"] == "no dimension rule: 1 node(s) and what they touch stay whole"
    assert step.verified.how == "structure"  # nobody can run it


def test_constants_before_an_unknown_operator_are_not_found_and_that_is_said() -> None:
    (step,) = cut(custom(silent=True), RemoveChannels(budget=Ratio(0.5))).report.steps

    (told,) = [note.text for note in step.notes if note.subject == "constant channels"]
    assert told.startswith("not compensated: the model cannot be run to find them: onnxruntime")


def test_the_mean_needs_a_model_that_runs_and_its_absence_is_said() -> None:
    model = custom()
    context = Context(data=samples(model))

    (step,) = cut(model, RemoveChannels(budget=Ratio(0.5)), context).report.steps

    assert any(note.subject == "mean channels" and "some.where:Mystery" in note.text for note in step.notes)
    for asked in (
        RemoveChannels(reconstruct=LEAST_SQUARES),
        RemoveChannels(criteria.make("activation_mean")),
    ):
        with pytest.raises(UnsupportedOp, match="some.where:Mystery"):
            cut(model, asked, context)


# --------------------------------------------------------------------------------------------------- symbolic sizes


@pytest.mark.parametrize("net", ["tower", "residual", "grouped", "branches", "attention", "recurrent"])
def test_every_size_may_be_symbolic(net: str) -> None:
    """Nothing but the axes that weights fix is known; both sample worlds differ in all others."""
    model = NETS[net]()
    rest = {"tower": ["N", 3, "H", "W"], "attention": ["N", 5, 6], "recurrent": ["T", "N", 4]}
    model.graph.inputs[0].shape = rest.get(net, ["N", 3, "H", "W"])
    for tensor in model.graph.outputs:
        tensor.shape = None

    result = cut(model, RemoveChannels(budget=MacsBelow(0.6), absorb=False))

    proved(result)
    fixed = cut(NETS[net](), RemoveChannels(budget=Ratio(0.5), absorb=False))
    free = cut(model, RemoveChannels(budget=Ratio(0.5), absorb=False))
    assert kept_told(free) == kept_told(fixed)


def test_a_model_whose_input_has_no_shape_at_all_is_left_whole_or_proved() -> None:
    model = tower()
    model.graph.inputs[0].shape = None

    result = cut(model, RemoveChannels(budget=Ratio(0.5)))

    if result.changed:
        proved(result)
    else:
        assert details(result)["pinned"] or details(result)["no_rule"]


def test_a_fixed_batch_is_proved_at_that_batch() -> None:
    model = tower()
    model.graph.inputs[0].shape = [4, 3, 6, 6]

    result = cut(model, RemoveChannels(budget=MacsBelow(0.5)))

    proved(result, worlds=1)
    assert details(result)["macs_before"] == cost.of(model).macs  # for the batch there is


# ------------------------------------------------------------------------------------------------- again and again


def test_a_model_can_be_cut_again_and_again() -> None:
    """Four cuts of the same model, each proved, each compensated on data."""
    for net in (attention, residual):
        model = net()
        for turn in range(4):
            result = cut(
                model,
                RemoveChannels(budget=MacsBelow(0.8)),
                Context(data=samples(model), seed=turn, threads=1),
            )
            proved(result)
            model = result.model
        names = [node.name for node in model.graph.nodes]
        assert len(names) == len(set(names))


def test_an_empty_graph_is_left_alone() -> None:
    b = Builder()
    x = b.input(["N", 2], "x")

    result = cut(b.model(x), RemoveChannels(budget=Ratio(0.5)))

    assert result.changed is False and details(result)["groups"] == []
