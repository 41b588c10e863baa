import numpy as np
import pytest

from graphrewrite import Context
from graphrewrite.ir import Builder
from graphrewrite.passes.tidy import MergeDuplicates
from tests.passes.tidy.cases import Case, floats, ints, operators, tidied, verify

IMAGE: list[int | str] = ["N", 3, 8, 8]

MERGED = [
    Case("equal nodes", lambda b: (lambda x: b.add(b.relu(x), b.relu(x)))(b.input(IMAGE)), "Add Relu"),
    Case(
        "equal chains",
        lambda b: (lambda x: b.add(b.op("Exp", b.relu(x)), b.op("Exp", b.relu(x))))(b.input(IMAGE)),
        "Add Exp Relu",
    ),
    Case(
        "equal constants by contents",
        lambda b: (lambda x: b.concat(*(b.op("Reshape", x, b.constant(ints(0, -1))) for _ in range(3))))(
            b.input(IMAGE)
        ),
        "Concat Reshape",
    ),
    Case(
        "equal attributes",
        lambda b: (lambda x: b.concat(*(b.op("LeakyRelu", x, alpha=0.3) for _ in range(2))))(b.input(IMAGE)),
        "Concat LeakyRelu",
    ),
    Case(
        "one of them an output",
        lambda b: (lambda x: [b.relu(x), b.op("Exp", b.relu(x))])(b.input(IMAGE)),
        "Exp Relu",
    ),
    Case(
        "the later one an output",
        lambda b: (lambda x: (lambda y, z: [z, b.op("Exp", y)])(b.relu(x), b.relu(x)))(b.input(IMAGE)),
        "Exp Relu",
    ),
    Case(
        "several outputs",
        lambda b: (
            lambda x: b.concat(
                *b.op_all("Split", x, outputs=2, axis=2), *b.op_all("Split", x, outputs=2, axis=2), axis=2
            )
        )(b.input(IMAGE)),
        "Concat Split",
    ),
]


@pytest.mark.parametrize("case", MERGED, ids=str)
def test_equal_nodes_become_one(case: Case) -> None:
    verify(case, MergeDuplicates())


KEPT = [
    Case(
        "other attributes",
        lambda b: (lambda x: b.concat(*(b.op("LeakyRelu", x, alpha=a) for a in (0.1, 0.2))))(b.input(IMAGE)),
        "Concat LeakyRelu LeakyRelu",
    ),
    Case(
        "other order of inputs",
        lambda b: (lambda x, y: b.concat(b.op("Sub", x, y), b.op("Sub", y, x)))(
            b.input(IMAGE), b.input(IMAGE)
        ),
        "Concat Sub Sub",
    ),
    Case("both outputs", lambda b: (lambda x: [b.relu(x), b.relu(x)])(b.input(IMAGE)), "Relu Relu"),
    Case(
        "custom operators may keep state",
        lambda b: (lambda x: b.add(b.op("Thing", x, domain="mine"), b.op("Thing", x, domain="mine")))(
            b.input(IMAGE)
        ),
        "Add Thing Thing",
    ),
    Case(
        "random numbers",
        lambda b: b.add(*(b.op("RandomNormal", shape=[3]) for _ in range(2))),
        "Add RandomNormal RandomNormal",
    ),
    Case(
        "int and float attributes",
        lambda b: (lambda x: b.concat(b.op("Thing", x, k=1), b.op("Thing", x, k=1.0)))(b.input(IMAGE)),
        "Concat Thing Thing",
    ),
]


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_nodes_that_differ_stay(case: Case) -> None:
    outcome = MergeDuplicates().run(case.model(), Context())
    assert operators(outcome.model) == case.after


def initializers(*values: np.ndarray) -> set[str]:
    """Names that are left when each array is added to its own part of an input."""
    b = Builder()
    sums = [
        b.op("Add", b.input(v.shape, dtype=v.dtype), b.constant(v, f"c{i}")) for i, v in enumerate(values)
    ]
    model = b.model(*sums, dtypes=[v.dtype for v in values])
    return set(tidied(model, MergeDuplicates()).model.weights)


def test_equal_weights_are_stored_once() -> None:
    assert initializers(floats(4, 3), floats(4, 3)) == {"c0"}
    assert initializers(ints(1, 2), ints(1, 2), ints(1, 3)) == {"c0", "c2"}


def test_weights_that_differ_anywhere_stay() -> None:
    almost = floats(400, 3)
    almost[399, 2] += 1
    assert initializers(floats(400, 3), almost) == {"c0", "c1"}


def test_equal_bytes_of_another_type_or_shape_stay() -> None:
    assert initializers(
        np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int32), np.zeros((4, 1), np.float32)
    ) == {"c0", "c1", "c2"}


def test_zero_biases_of_different_layers_stay_apart() -> None:
    assert initializers(np.zeros(5, np.float32), np.zeros(5, np.float32)) == {"c0", "c1"}
    assert initializers(floats(5), floats(5)) == {"c0"}


def test_weights_a_caller_may_override_stay_apart() -> None:
    b = Builder()
    one, two = b.constant(floats(3, 3)), b.constant(floats(3, 3))
    b.graph.inputs.append(two)
    model = b.model(b.add(b.op("MatMul", b.input([3, 3]), one), two))
    assert not tidied(model, MergeDuplicates()).changed


def test_an_initializer_that_is_an_output_keeps_its_name() -> None:
    b = Builder()
    one, two = b.constant(floats(3, 3), "one"), b.constant(floats(3, 3), "two")
    model = b.model(b.op("MatMul", b.input([3, 3]), one), two)
    result = tidied(model, MergeDuplicates()).model
    assert [tensor.name for tensor in result.outputs][1] == "two"
