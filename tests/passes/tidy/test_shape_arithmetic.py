import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite import Context
from graphrewrite.ir import Builder
from graphrewrite.passes.tidy import SimplifyShapes, Tidy
from tests.passes.tidy.cases import Case, floats, ints, operators, prove_same, tidied, verify


def size(b: Builder, x: gs.Tensor, axis: int) -> gs.Tensor:
    """The way exporters read one size: Shape, Gather of one element, Unsqueeze."""
    one = b.op("Gather", b.op("Shape", x), b.constant(np.int64(axis)), axis=0)
    return b.op("Unsqueeze", one, b.constant(ints(0)))


def target(b: Builder, *parts: gs.Tensor | int) -> gs.Tensor:
    return b.op("Concat", *(b.constant(ints(p)) if isinstance(p, int) else p for p in parts), axis=0)


def heads(b: Builder) -> gs.Tensor:
    """What attention does to [batch, tokens, 12]: four heads of three."""
    x = b.input(["N", 7, 12])
    return b.op("Reshape", x, target(b, size(b, x, 0), size(b, x, 1), 4, 3))


def two_open(b: Builder) -> gs.Tensor:
    x = b.input(["N", "M", 12])
    return b.op("Reshape", x, target(b, size(b, x, 0), size(b, x, 1), 4, 3))


def swapped(b: Builder) -> gs.Tensor:
    x = b.input(["N", "M", 12])
    y = b.op("Transpose", x, perm=[1, 0, 2])
    return b.op("Reshape", y, target(b, size(b, x, 0), size(b, x, 1), 12))


def flattened_pixels(b: Builder) -> gs.Tensor:
    x = b.input(["N", 6, "H", "W"])
    return b.op("Reshape", x, target(b, size(b, x, 0), size(b, x, 1), -1))


def windows(b: Builder) -> gs.Tensor:
    """The number of windows grows with the batch, computed with Mul."""
    x = b.input(["N", 8, 12])
    count = b.op("Mul", size(b, x, 0), b.constant(ints(2)))
    return b.op("Reshape", x, target(b, count, 4, 12))


def expanded(b: Builder) -> gs.Tensor:
    """A class token, repeated for every sample: the shape by Where and Equal as one exporter writes it."""
    x = b.input(["N", 5, 6])
    wanted = target(b, size(b, x, 0), -1, -1)
    ones = b.op("ConstantOfShape", b.constant(ints(3)), value=gs.Constant("", ints(1)))
    minus = b.op("Mul", ones, b.constant(ints(-1)))
    shape = b.op("Where", b.op("Equal", wanted, minus), ones, wanted)
    token = b.op("Expand", b.constant(floats(1, 1, 6)), shape)
    return b.concat(token, x)


CASES = [
    Case("heads of a known number of tokens", heads, "Reshape"),
    Case("two axes that vary, both copied", two_open, "Reshape"),
    Case("all pixels in one axis", flattened_pixels, "Reshape"),
    Case("a multiple of the batch", windows, "Reshape"),
    Case("a token for every sample", expanded, "Concat Concat Expand Shape"),
    Case("axes that change places are read", swapped, "Concat Reshape Shape Transpose"),
    Case(
        "Expand before a sum that broadcasts",
        lambda b: (lambda x: b.add(x, b.op("Expand", b.constant(floats(1, 6)), b.op("Shape", x))))(
            b.input(["N", 6])
        ),
        "Add",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shapes_are_said_in_few_nodes(case: Case) -> None:
    verify(case, SimplifyShapes())


def test_the_batch_stays_dynamic() -> None:
    for case in CASES[:5]:
        result = SimplifyShapes().run(case.model(), Context()).model
        assert not any(isinstance(dim, int) for tensor in result.inputs for dim in tensor.shape[:1])
        for node in result.nodes("Reshape"):
            assert node.inputs[1].values[0] in (0, -1)


KEPT = [
    Case(
        "Expand that makes the result larger",
        lambda b: (lambda x, y: b.add(x, b.op("Expand", y, b.op("Shape", b.input(["N", 6])))))(
            b.input([1, 6]), b.input([1, 6])
        ),
        "Add Expand Shape",
    ),
    Case(
        "Expand that is an output",
        lambda b: (lambda x: [b.op("Expand", b.constant(floats(1, 6)), b.op("Shape", x))])(b.input(["N", 6])),
        "Expand Shape",
    ),
    Case(
        "Reshape to contents of an input",
        lambda b: b.op("Reshape", b.input([2, 6]), b.input([2], name="mask", dtype=np.int64)),
        "Reshape",
    ),
]


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_what_hangs_on_the_run_stays(case: Case) -> None:
    outcome = SimplifyShapes().run(case.model(), Context())
    assert operators(outcome.model) == case.after


def test_a_shape_the_caller_may_override_is_not_trusted() -> None:
    b = Builder()
    shape = b.constant(ints(2, 6))
    b.graph.inputs.append(shape)
    model = b.model(b.relu(b.op("Reshape", b.input([3, 4]), shape)))
    assert not SimplifyShapes().run(model, Context()).changed


def test_before_operator_set_15_a_size_is_read_with_gather() -> None:
    verify(Case("", swapped, "Concat Gather Reshape Shape Transpose", opset=14), SimplifyShapes())


def test_sizes_of_zero_stay_right() -> None:
    b = Builder()
    x = b.input(["N", 0, 4])
    model = b.model(b.op("Reshape", x, target(b, size(b, x, 0), 4, 0), allowzero=1))
    prove_same(model, Tidy().run(model.clone(), Context()).model)


def test_a_batch_of_zero_still_runs() -> None:
    from graphrewrite.runtime import run

    model = Case("", heads, "").model()
    result = tidied(model, SimplifyShapes()).model
    (out,) = run(result, {model.inputs[0].name: np.zeros((0, 7, 12), np.float32)}).values()
    assert out.shape == (0, 7, 4, 3)
