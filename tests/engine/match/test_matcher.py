import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.errors import UnknownNameError
from graphrewrite.ir import Builder
from graphrewrite.match import Draft, Match, Op, P, Refusal, match


def last(b: Builder, *outputs: gs.Tensor) -> tuple[gs.Node, Draft]:
    """The node that writes the first output, and a draft of the whole model."""
    return outputs[0].inputs[0], Draft(b.model(*outputs))


def found(pattern: Op, b: Builder, *outputs: gs.Tensor) -> Match:
    node, draft = last(b, *outputs)
    result = match(pattern, node, draft)
    assert isinstance(result, Match), result
    return result


def refused(pattern: Op, b: Builder, *outputs: gs.Tensor) -> Refusal:
    node, draft = last(b, *outputs)
    result = match(pattern, node, draft)
    assert isinstance(result, Refusal)
    return result


def test_names_are_bound() -> None:
    b = Builder()
    x = b.input([1, 3, 8, 8])
    m = found(P.Relu(P.Conv(P.x, P.const("w"), ...).named("conv")), b, b.relu(b.conv(x, 4, 3, name="c")))
    assert m.tensor("x") is x
    assert m.array("w").shape == (4, 3, 3, 3)
    assert m.node("conv").name == "c"
    assert m.root.op == "Relu"


def test_an_unknown_name_is_an_error() -> None:
    b = Builder()
    m = found(P.Relu(P.x), b, b.relu(b.input([1])))
    with pytest.raises(UnknownNameError, match="it binds x"):
        m.tensor("y")


def test_further_inputs_may_be_there_or_not() -> None:
    for bias in (True, False):
        b = Builder()
        found(P.Conv(P.x, P.w, ...), b, b.conv(b.input([1, 3, 8, 8]), 4, 3, bias=bias))


def test_without_dots_the_number_of_inputs_counts() -> None:
    b = Builder()
    assert "3 inputs" in refused(P.Conv(P.x, P.w), b, b.conv(b.input([1, 3, 8, 8]), 4, 3)).reason


def test_an_input_left_out() -> None:
    b = Builder()
    y = b.op("Clip", b.input([3]), None, b.constant(np.float32(6)))
    assert found(P.Clip(P.x, None, P.number(name="high")), b, y).number("high") == 6
    b = Builder()
    y = b.op("Clip", b.input([3]), b.constant(np.float32(0)), b.constant(np.float32(6)))
    assert "left out" in refused(P.Clip(P.x, None, P.high), b, y).reason
    b = Builder()
    assert "left out" in refused(P.Clip(P.x, P.low, ...), b, b.op("Clip", b.input([3]))).reason


@pytest.mark.parametrize("turned", [False, True])
def test_sums_match_either_way(turned: bool) -> None:
    b = Builder()
    x, y = b.input([3]), b.relu(b.input([3]))
    m = found(P.Add(P.x, P.Relu(P.y)), b, b.add(y, x) if turned else b.add(x, y))
    assert m.tensor("x") is x


def test_an_order_that_fails_later_is_taken_back() -> None:
    b = Builder()
    x, y = b.input([3]), b.input([3])
    # Bound the first way round, x * x would not be found.
    m = found(P.Add(P.x, P.Mul(P.x, P.y)), b, b.add(b.op("Mul", y, x), x))
    assert m.tensor("x") is x and m.tensor("y") is y


def test_differences_match_one_way_only() -> None:
    b = Builder()
    x, y = b.input([3]), b.relu(b.input([3]))
    refused(P.Sub(P.x, P.Relu(P.y)), b, b.op("Sub", y, x))


def test_one_name_is_one_tensor() -> None:
    b = Builder()
    x, y = b.input([3]), b.input([3])
    assert "already another tensor" in refused(P.Sub(P.x, P.x), b, b.op("Sub", x, y)).reason
    b = Builder()
    x = b.input([3])
    found(P.Sub(P.x, P.x), b, b.op("Sub", x, x))


def test_numbers_are_compared_to_a_tolerance() -> None:
    def product(value: npt.ArrayLike) -> tuple[Builder, gs.Tensor]:
        b = Builder()
        return b, b.op("Mul", b.input([2, 2]), b.constant(value))

    found(P.Mul(P.x, P.number(0.5)), *product(np.float32(0.5)))
    found(P.Mul(P.x, P.number(0.5)), *product(np.full((2, 2), 0.5, np.float32)))
    assert "wanted 0.5" in refused(P.Mul(P.x, P.number(0.5)), *product(np.float32(0.501))).reason
    assert (
        "not one number"
        in refused(P.Mul(P.x, P.number(0.5)), *product(np.asarray([0.5, 0.6], np.float32))).reason
    )


def test_what_a_caller_may_override_is_no_constant() -> None:
    b = Builder()
    c = b.constant(np.float32(1))
    b.graph.inputs.append(c)
    assert "not constant" in refused(P.Add(P.x, P.const()), b, b.add(b.input([3]), c)).reason


def test_constants_of_both_homes() -> None:
    b = Builder()
    c = b.op("Constant", value=gs.Constant("", np.asarray([1, 2], np.float32)))
    assert found(P.Mul(P.x, P.const("c")), b, b.op("Mul", b.input([2]), c)).array("c").tolist() == [1, 2]


def test_alternatives_are_tried_in_order() -> None:
    pattern = P.Exp(P.one_of(P.Relu(P.x), P.Neg(P.y), P.z))
    for op, name in (("Relu", "x"), ("Neg", "y"), ("Abs", "z")):
        b = Builder()
        m = found(pattern, b, b.op("Exp", b.op(op, b.input([3]))))
        assert [key for key in "xyz" if m.has(key)] == [name]


def test_attributes_are_equal_or_tested() -> None:
    def draw() -> tuple[Builder, gs.Tensor]:
        b = Builder()
        return b, b.op("LeakyRelu", b.input([3]), alpha=0.1)

    found(P.LeakyRelu(P.x, alpha=0.1), *draw())
    found(P.LeakyRelu(P.x, alpha=lambda value: isinstance(value, float) and value < 0.2), *draw())
    assert "alpha is 0.1" in refused(P.LeakyRelu(P.x, alpha=0.2), *draw()).reason


def test_the_output_that_is_read_counts() -> None:
    b = Builder()
    first, second = b.op_all("Split", b.input([4]), outputs=2)
    y = b.relu(second)
    found(P.Relu(P.Split(P.x, ...).out(1)), b, y, first)
    assert "not its output 0" in refused(P.Relu(P.Split(P.x, ...)), b, y).reason


def test_an_operator_of_another_domain_is_another_operator() -> None:
    b = Builder()
    assert "found Relu" in refused(P.Relu(P.x), b, b.op("Relu", b.input([3]), domain="mine")).reason


def test_a_refusal_tells_the_deepest_dead_end() -> None:
    b = Builder()
    y = b.relu(b.op("Exp", b.op("Abs", b.input([3]), name="culprit")))
    refusal = refused(P.Relu(P.Exp(P.Neg(P.x))), b, y)
    assert refusal.reason == "wanted Neg, found Abs"
    assert refusal.node is not None and refusal.node.name == "culprit"
