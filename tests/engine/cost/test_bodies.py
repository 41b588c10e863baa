"""Bodies of If, Loop and Scan, and calls of model-local functions."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper

from graphrewrite import cost
from graphrewrite.ir import Model
from tests.engine.dims.bodies import filled

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name: str, kind: int, shape: list[int | str] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, *shape: int) -> TensorProto:
    return helper.make_tensor(name, FLOAT, shape, np.ones(shape, np.float32).tobytes(), raw=True)


def scalar(name: str, kind: int, value: int) -> TensorProto:
    return helper.make_tensor(name, kind, [], [value])


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    initializers: list[TensorProto],
    functions: list[onnx.FunctionProto] | None = None,
    output: str = "y",
) -> Model:
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=output)], initializers)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    return Model.from_proto(helper.make_model(graph, opset_imports=opsets, functions=functions or []))


def loop(trips: TensorProto | onnx.ValueInfoProto, keep_going: str = "going") -> Model:
    """Return a model that multiplies [2, 4] by a captured and by an inner [4, 4] weight in every run."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "outer"], ["m"], name="captured"),
            helper.make_node("MatMul", ["m", "inner"], ["n"], name="own"),
            helper.make_node("Identity", [keep_going], ["out_going"]),
        ],
        "body",
        [info("i", INT, []), info("going", BOOL, []), info("h", FLOAT, None)],
        [info("out_going", BOOL, []), info("n", FLOAT, None)],
        [weight("inner", 4, 4)],
    )
    node = helper.make_node("Loop", ["trips", "", "x"], ["y"], name="loop", body=body)
    inputs = [info("x", FLOAT, [2, 4])]
    initializers = [weight("outer", 4, 4)]
    if isinstance(trips, TensorProto):
        initializers.append(trips)
    else:
        inputs.append(trips)
    if keep_going == "flag":
        inputs.append(info("flag", BOOL, []))
    return model_of([node], inputs, initializers)


def test_a_loop_counts_as_often_as_it_runs_and_its_weights_once() -> None:
    table = cost.of(loop(scalar("trips", INT, 5)))
    assert table.macs == 5 * 2 * 32
    assert table.params == 32 and table.nodes[0].params == 32
    assert table.notes() == ()
    assert table.activation_bytes == 32 + 5 * (32 + 1) - 5  # y, and in every run m; the flag is an output
    assert table.peak_bytes == 32 + 32 + 32  # x, and inside m and n; the last n is y


def test_a_loop_of_unknown_length_counts_once_and_says_so() -> None:
    table = cost.of(loop(info("trips", INT, [])))
    assert table.macs == 64
    assert table.notes() == (("loop", "body counted once: how often it runs is not known"),)


def test_a_loop_that_may_stop_early_counts_once_and_says_so() -> None:
    table = cost.of(loop(scalar("trips", INT, 5), keep_going="flag"))
    assert table.macs == 64 and "not known" in table.nodes[0].note


def test_a_loop_that_never_runs_costs_nothing_but_keeps_its_weights() -> None:
    table = cost.of(loop(scalar("trips", INT, 0)))
    assert (table.macs, table.params) == (0, 32)


def test_a_state_that_grows_is_noted() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Concat", ["h", "h"], ["n"], axis=0),
            helper.make_node("Identity", ["going"], ["out_going"]),
        ],
        "body",
        [info("i", INT, []), info("going", BOOL, []), info("h", FLOAT, None)],
        [info("out_going", BOOL, []), info("n", FLOAT, None)],
    )
    node = helper.make_node("Loop", ["trips", "", "x"], ["y"], name="loop", body=body)
    table = cost.of(model_of([node], [info("x", FLOAT, [2, 4])], [scalar("trips", INT, 3)]))
    assert "n changes its sizes from run to run" in table.nodes[0].note


def branch(name: str, width: int, output: str) -> onnx.GraphProto:
    """Return a body that multiplies the captured x [2, 4] by a weight of its own."""
    return helper.make_graph(
        [helper.make_node("MatMul", ["x", f"w_{name}"], [output], name=name)],
        name,
        [],
        [info(output, FLOAT, None)],
        [weight(f"w_{name}", 4, width)],
    )


def choice(condition: TensorProto | onnx.ValueInfoProto) -> Model:
    node = helper.make_node(
        "If",
        ["c"],
        ["y"],
        name="if",
        then_branch=branch("small", 3, "s"),
        else_branch=branch("large", 7, "l"),
    )
    known = isinstance(condition, TensorProto)
    inputs = [info("x", FLOAT, [2, 4])] + ([] if known else [condition])
    return model_of([node], inputs, [condition] if known else [])


@pytest.mark.parametrize(("value", "macs"), [(1, 2 * 4 * 3), (0, 2 * 4 * 7)])
def test_a_known_condition_counts_the_branch_that_runs(value: int, macs: int) -> None:
    table = cost.of(choice(scalar("c", BOOL, value)))
    assert (table.macs, table.params) == (macs, 12 + 28)


def test_an_unknown_condition_counts_the_dearer_branch() -> None:
    table = cost.of(choice(info("c", BOOL, [])))
    assert (table.macs, table.params) == (2 * 4 * 7, 40)
    assert "dearer" in table.nodes[0].note


def test_a_scan_runs_once_per_slice() -> None:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["part", "w"], ["step"]),
            helper.make_node("Add", ["state", "step"], ["next"]),
            helper.make_node("Identity", ["next"], ["seen"]),
        ],
        "body",
        [info("state", FLOAT, None), info("part", FLOAT, None)],
        [info("next", FLOAT, None), info("seen", FLOAT, None)],
    )
    node = helper.make_node(
        "Scan", ["start", "x"], ["last", "y"], name="scan", body=body, num_scan_inputs=1, scan_input_axes=[1]
    )
    inputs = [info("start", FLOAT, [2, 5]), info("x", FLOAT, [2, 6, 4])]
    table = cost.of(model_of([node], inputs, [weight("w", 4, 5)]))
    assert (table.macs, table.ops, table.params) == (6 * 40, 6 * 10, 20)
    assert table.notes() == ()


def affine(name: str = "Affine") -> onnx.FunctionProto:
    """Return local.Affine(x, w, b): a product, a sum, a slope that comes as an attribute."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["s"]),
        helper.make_node("LeakyRelu", ["s"], ["r"]),
        helper.make_node("Constant", [], ["half"], value=weight("", 1)),
        helper.make_node("Mul", ["r", "half"], ["y"]),
    ]
    nodes[2].attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    return helper.make_function(
        "local", name, ["x", "w", "b"], ["y"], nodes, [helper.make_opsetid("", 18)], ["slope"]
    )


def test_a_function_costs_what_its_body_costs() -> None:
    calls = [
        helper.make_node("Affine", ["x", "w1", "b1"], ["h"], domain="local", name="one", slope=0.1),
        helper.make_node("Affine", ["h", "w2", "b2"], ["y"], domain="local", name="two", slope=0.2),
    ]
    weights = [weight("w1", 4, 6), weight("b1", 6), weight("w2", 6, 3), weight("b2", 3)]
    table = cost.of(model_of(calls, [info("x", FLOAT, [2, 4])], weights, [affine()]))
    assert [row.macs for row in table.nodes] == [2 * 4 * 6, 2 * 6 * 3]
    assert [row.ops for row in table.nodes] == [3 * 12, 3 * 6]
    # the constant inside the function is stored once, however often it is called
    assert table.params == 24 + 6 + 18 + 3 + 1
    assert [row.params for row in table.nodes] == [31, 22]
    assert not table.unknown and table.notes() == ()


def test_a_shape_that_is_handed_to_a_function_steers_the_body() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "r"], ["y"]),
    ]
    function = helper.make_function(
        "local", "Square", ["x", "shape"], ["y"], nodes, [helper.make_opsetid("", 18)]
    )
    shape = helper.make_tensor("shape", INT, [2], [3, 3])
    call = helper.make_node("Square", ["x", "shape"], ["y"], domain="local")
    table = cost.of(model_of([call], [info("x", FLOAT, [9])], [shape], [function]))
    assert table.macs == 27 and table.params == 0


def test_an_operator_inside_a_body_that_has_no_rule_is_named_by_its_place() -> None:
    body = helper.make_function(
        "local", "Odd", ["x"], ["y"], [helper.make_node("Strange", ["x"], ["y"], domain="acme", name="odd")],
        [helper.make_opsetid("acme", 1)],
    )  # fmt: skip
    call = helper.make_node("Odd", ["x"], ["y"], domain="local", name="call")
    table = cost.of(model_of([call], [info("x", FLOAT, [2, 4])], [], [body]))
    assert table.unknown == {"acme.Strange": ("call/odd",)}


def test_counting_leaves_the_model_as_it_was() -> None:
    model = loop(scalar("trips", INT, 5))
    before = model.to_proto().SerializeToString(deterministic=True)
    consumers = {name: len(constant.outputs) for name, constant in model.graph.initializers.items()}
    cost.of(model)
    assert model.to_proto().SerializeToString(deterministic=True) == before
    assert {name: len(constant.outputs) for name, constant in model.graph.initializers.items()} == consumers
    assert isinstance(model.graph.nodes[0].attrs["body"], gs.Graph)


def test_a_constant_that_a_branch_returns_is_a_parameter_though_no_node_reads_it() -> None:
    model = filled("""agraph (float[2, 4] x, bool choice) => (float[2, 6] y) {
        y = If (choice) <
            then_branch = one () => (float[2, 6] a) <float[4, 6] w> { a = MatMul (x, w) },
            else_branch = two () => (float[2, 6] b) <float[2, 6] b> { }
        >
    }""")
    assert cost.of(model).params == 24 + 12


def test_what_a_loop_takes_out_of_a_list_has_the_sizes_of_its_items() -> None:
    """Two items of [2, 6] go round three times; each round multiplies the oldest by a 6 by 6 matrix."""
    model = filled("""agraph (float[2, 6] x) => (float[2, 6] y) <int64 rounds = {3}> {
        line = SequenceConstruct (x, x)
        going = Constant <value = bool {1}> ()
        zero = Constant <value = int64 {0}> ()
        after = Loop (rounds, going, line) <
            body = round (int64 i, bool on, list) => (bool on_out, later) <float[6, 6] cell> {
                on_out = Identity (on)
                oldest = SequenceAt (list, zero)
                mixed = MatMul (oldest, cell)
                rest = SequenceErase (list, zero)
                later = SequenceInsert (rest, mixed)
            }
        >
        y = SequenceAt (after, zero)
    }""")
    assert cost.of(model).macs == 3 * 2 * 36


def test_a_list_of_unlike_tensors_is_known_part_by_part_inside_a_body() -> None:
    """One branch multiplies [N, 2] by [2, 5], the other [N, 4] by [4, 5]: the dearer one counts, with 20."""
    model = filled("""agraph (float[N, 6] x, bool choice) => (float[N, 5] y) <int64[2] lengths = {2, 4}> {
        parts = SplitToSequence <axis = 1> (x, lengths)
        y = If (choice) <
            then_branch = one () => (float[N, 5] a) <float[2, 5] left, int64 zero = {0}> {
                first = SequenceAt (parts, zero)
                a = MatMul (first, left)
            },
            else_branch = two () => (float[N, 5] b) <float[4, 5] right, int64 last = {-1}> {
                second = SequenceAt (parts, last)
                b = MatMul (second, right)
            }
        >
    }""")
    table = cost.of(model)
    assert not table.unsized and table.per_sample("macs") == 4 * 5


def test_calls_with_other_lists_are_counted_apart() -> None:
    function = helper.make_function(
        "local", "First", ["parts", "w"], ["out"],
        [helper.make_node("Constant", [], ["zero"], value_int=0),
         helper.make_node("SequenceAt", ["parts", "zero"], ["p"]),
         helper.make_node("MatMul", ["p", "w"], ["out"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    nodes = [
        helper.make_node("SequenceConstruct", ["two", "four"], ["rising"]),
        helper.make_node("SequenceConstruct", ["three", "two"], ["other"]),
        helper.make_node("First", ["rising", "w"], ["one"], domain="local"),
        helper.make_node("First", ["other", "w"], ["y"], domain="local"),
    ]
    inputs = [info("two", FLOAT, [2, 4]), info("three", FLOAT, [3, 4]), info("four", FLOAT, [4, 4])]
    table = cost.of(model_of(nodes, inputs, [weight("w", 4, 4)], [function]))
    assert [row.macs for row in table.nodes] == [0, 0, 2 * 4 * 4, 3 * 4 * 4]
