"""Channel removal on models that are not written the plain way."""

import numpy as np
import onnx
import pytest
from onnx import helper

from graphrewrite import cost
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels import MacsBelow, ParamsBelow, Ratio, RemoveChannels
from graphrewrite.passes.channels.criteria import criteria
from graphrewrite.passes.channels.reconstruct import reconstructions
from graphrewrite.pipeline import Context
from tests.passes.channels.nets import (
    NETS,
    attention,
    cut,
    details,
    floats,
    kept_told,
    proved,
    residual,
    samples,
    tower,
)

LEAST_SQUARES = reconstructions.make("least_squares")


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
