import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder
from graphrewrite.passes.tidy import FuseActivations, FuseNorms, Tidy
from tests.passes.tidy.cases import Case, floats, ints, operators, tidied, verify


def num(b: Builder, value: float) -> gs.Tensor:
    return b.constant(np.float32(value))


def gate(b: Builder, x: gs.Tensor, tanh: bool = False) -> gs.Tensor:
    if not tanh:
        return b.add(b.op("Erf", b.op("Div", x, num(b, math.sqrt(2)))), num(b, 1))
    cube = b.op("Mul", b.op("Pow", x, num(b, 3)), num(b, 0.044715))
    return b.add(num(b, 1), b.op("Tanh", b.op("Mul", b.add(x, cube), num(b, math.sqrt(2 / math.pi)))))


def gelu_half_last(b: Builder, tanh: bool = False, half: float = 0.5) -> gs.Tensor:
    x = b.input(["N", 9])
    return b.op("Mul", b.op("Mul", x, gate(b, x, tanh)), num(b, half))


def gelu_half_on_x(b: Builder, tanh: bool = False) -> gs.Tensor:
    x = b.input(["N", 9])
    return b.op("Mul", b.op("Mul", num(b, 0.5), x), gate(b, x, tanh))


def gelu_half_inside(b: Builder, tanh: bool = False) -> gs.Tensor:
    x = b.input(["N", 9])
    return b.op("Mul", b.op("Mul", num(b, 0.5), gate(b, x, tanh)), x)


def hard_swish(b: Builder, six: float = 6.0) -> gs.Tensor:
    x = b.input(["N", 9])
    return b.op("Div", b.op("Mul", x, b.op("Clip", b.add(x, num(b, 3)), num(b, 0), num(b, six))), num(b, 6))


def on_x(b: Builder, draw: Callable[[Builder, gs.Tensor], gs.Tensor]) -> gs.Tensor:
    return draw(b, b.input(["N", 9]))


ACTIVATIONS = [
    Case("Gelu, half last", gelu_half_last, "Gelu", opset=20, ir_version=9),
    Case("Gelu, half on x", gelu_half_on_x, "Gelu", opset=20, ir_version=9),
    Case("Gelu, half inside", gelu_half_inside, "Gelu", opset=20, ir_version=9),
    Case("Gelu by tanh, half last", lambda b: gelu_half_last(b, True), "Gelu", opset=20, ir_version=9),
    Case("Gelu by tanh, half on x", lambda b: gelu_half_on_x(b, True), "Gelu", opset=20, ir_version=9),
    Case("Gelu by tanh, half inside", lambda b: gelu_half_inside(b, True), "Gelu", opset=20, ir_version=9),
    Case("HardSwish by Clip", hard_swish, "HardSwish"),
    Case(
        "HardSwish by HardSigmoid",
        lambda b: on_x(b, lambda b, x: b.op("Mul", b.op("HardSigmoid", x, alpha=1 / 6, beta=0.5), x)),
        "HardSwish",
    ),
    Case(
        "HardSigmoid by Clip",
        lambda b: on_x(
            b, lambda b, x: b.op("Div", b.op("Clip", b.add(x, num(b, 3)), num(b, 0), num(b, 6)), num(b, 6))
        ),
        "HardSigmoid",
    ),
    Case(
        "Mish",
        lambda b: on_x(b, lambda b, x: b.op("Mul", x, b.op("Tanh", b.op("Softplus", x)))),
        "Mish",
        opset=20,
        ir_version=9,
    ),
    Case(
        "LogSoftmax", lambda b: on_x(b, lambda b, x: b.op("Log", b.op("Softmax", x, axis=-1))), "LogSoftmax"
    ),
    Case("minus", lambda b: b.add(b.input([9]), b.op("Neg", b.input([9]))), "Sub"),
    Case("over", lambda b: b.op("Mul", b.input([9]), b.op("Reciprocal", b.input([9]))), "Div"),
    Case(
        "over, by one over", lambda b: b.op("Mul", b.op("Div", num(b, 1), b.input([9])), b.input([9])), "Div"
    ),
]


@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_an_activation_becomes_one_node(case: Case) -> None:
    verify(case, FuseActivations())


ACTIVATIONS_KEPT = [
    Case("Gelu before operator set 20", gelu_half_last, "Add Div Erf Mul Mul"),
    Case(
        "not quite half",
        lambda b: gelu_half_last(b, half=0.51),
        "Add Div Erf Mul Mul",
        opset=20,
        ir_version=9,
    ),
    Case("HardSwish before operator set 14", hard_swish, "Add Clip Div Mul", opset=13, ir_version=7),
    Case("another limit", lambda b: hard_swish(b, 5.9), "Add Clip Div Mul"),
    Case(
        "HardSigmoid of another slope",
        lambda b: on_x(b, lambda b, x: b.op("Mul", b.op("HardSigmoid", x, alpha=0.2, beta=0.5), x)),
        "HardSigmoid Mul",
    ),
    Case(
        "the gate of another tensor",
        lambda b: b.op("Mul", b.op("HardSigmoid", b.input([9]), alpha=1 / 6, beta=0.5), b.input([9])),
        "HardSigmoid Mul",
    ),
    Case(
        "a softmax that is also read otherwise",
        lambda b: on_x(b, lambda b, x: (lambda s: [b.op("Log", s), s])(b.op("Softmax", x))),
        "Log Softmax",
    ),
]


@pytest.mark.parametrize("case", ACTIVATIONS_KEPT, ids=str)
def test_an_activation_that_is_another_stays(case: Case) -> None:
    outcome = tidied(case.model(), FuseActivations())
    assert not outcome.changed and operators(outcome.model) == case.after


def layer_norm(
    b: Builder,
    axes: Sequence[int] = (-1,),
    power: bool = True,
    second: Sequence[int] | None = None,
    shape: Sequence[int | str] = ("N", 7, 6),
    opset: int = 17,
    keep: int = 1,
) -> gs.Tensor:
    x = b.input(list(shape))

    def mean(v: gs.Tensor, over: Sequence[int]) -> gs.Tensor:
        if opset >= 18:
            return b.op("ReduceMean", v, b.constant(ints(*over)), keepdims=keep)
        return b.op("ReduceMean", v, axes=list(over), keepdims=keep)

    centred = b.op("Sub", x, mean(x, axes))
    square = b.op("Pow", centred, num(b, 2)) if power else b.op("Mul", centred, centred)
    return b.op("Div", centred, b.op("Sqrt", b.add(mean(square, second or axes), num(b, 1e-5))))


def with_gain(b: Builder, x: gs.Tensor) -> gs.Tensor:
    return b.add(b.op("Mul", x, b.constant(floats(6))), b.constant(floats(6)))


NORMS = [
    Case("LayerNormalization", layer_norm, "LayerNormalization"),
    Case("LayerNormalization by Mul", lambda b: layer_norm(b, power=False), "LayerNormalization"),
    Case("LayerNormalization over two axes", lambda b: layer_norm(b, axes=(1, 2)), "LayerNormalization"),
    Case(
        "LayerNormalization, axes an input", lambda b: layer_norm(b, opset=18), "LayerNormalization", opset=18
    ),
    Case(
        "ReduceL2",
        lambda b: on_x(
            b, lambda b, x: b.op("Sqrt", b.op("ReduceSum", b.op("Mul", x, x), b.constant(ints(1))))
        ),
        "ReduceL2",
    ),
    Case(
        "ReduceL2, axes an input",
        lambda b: on_x(
            b, lambda b, x: b.op("Sqrt", b.op("ReduceSum", b.op("Pow", x, num(b, 2)), b.constant(ints(1))))
        ),
        "ReduceL2",
        opset=18,
    ),
    Case(
        "ReduceL2, axes an attribute",
        lambda b: on_x(b, lambda b, x: b.op("Sqrt", b.op("ReduceSum", b.op("Mul", x, x), axes=[1]))),
        "ReduceL2",
        opset=11,
    ),
    Case(
        "ReduceL1",
        lambda b: on_x(b, lambda b, x: b.op("ReduceSum", b.op("Abs", x), b.constant(ints(1)), keepdims=0)),
        "ReduceL1",
    ),
    Case(
        "ReduceSumSquare of all",
        lambda b: on_x(b, lambda b, x: b.op("ReduceSum", b.op("Mul", x, x), keepdims=0)),
        "ReduceSumSquare",
    ),
    Case(
        "ReduceLogSumExp",
        lambda b: on_x(b, lambda b, x: b.op("Log", b.op("ReduceSum", b.op("Exp", x), b.constant(ints(1))))),
        "ReduceLogSumExp",
    ),
]


@pytest.mark.parametrize("case", NORMS, ids=str)
def test_a_norm_becomes_one_node(case: Case) -> None:
    verify(case, FuseNorms())


NORMS_KEPT = [
    Case(
        "before operator set 17",
        lambda b: layer_norm(b),
        "Add Div Pow ReduceMean ReduceMean Sqrt Sub",
        opset=16,
    ),
    Case(
        "over the first axis",
        lambda b: layer_norm(b, axes=(1,)),
        "Add Div Pow ReduceMean ReduceMean Sqrt Sub",
    ),
    Case(
        "over different axes",
        lambda b: layer_norm(b, axes=(1, 2), second=(2,)),
        "Add Div Pow ReduceMean ReduceMean Sqrt Sub",
    ),
    Case(
        "over an axis that varies",
        lambda b: layer_norm(b, shape=(2, 7, "M")),
        "Add Div Pow ReduceMean ReduceMean Sqrt Sub",
    ),
    Case(
        "squares that are read otherwise",
        lambda b: on_x(
            b, lambda b, x: (lambda s: [b.op("ReduceSum", s, b.constant(ints(1))), s])(b.op("Mul", x, x))
        ),
        "Mul ReduceSum",
    ),
    Case(
        "a sum that may reduce nothing",
        lambda b: on_x(
            b, lambda b, x: b.op("ReduceSum", b.op("Abs", x), b.constant(ints()), noop_with_empty_axes=1)
        ),
        "Abs ReduceSum",
    ),
]


@pytest.mark.parametrize("case", NORMS_KEPT, ids=str)
def test_a_norm_that_is_another_stays(case: Case) -> None:
    outcome = tidied(case.model(), FuseNorms())
    assert not outcome.changed and operators(outcome.model) == case.after


def test_gain_and_offset_move_into_the_norm() -> None:
    verify(Case("", lambda b: with_gain(b, layer_norm(b)), "LayerNormalization"), Tidy())


def test_rms_norm_since_operator_set_23() -> None:
    def draw(b: Builder) -> gs.Tensor:
        x = b.input(["N", 7, 6])
        mean = b.op("ReduceMean", b.op("Pow", x, num(b, 2)), b.constant(ints(-1)))
        return b.op("Div", x, b.op("Sqrt", b.add(mean, num(b, 1e-6))))

    verify(Case("", draw, "RMSNormalization", opset=23, ir_version=11), FuseNorms())
    verify(Case("", draw, "Add Div Pow ReduceMean Sqrt", opset=22, ir_version=10), FuseNorms())


def test_fusing_can_be_left_out() -> None:
    case = Case("", gelu_half_last, "", opset=20, ir_version=9)
    assert "Gelu" not in operators(tidied(case.model(), Tidy(fuse=False)).model)
