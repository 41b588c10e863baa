import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder
from graphrewrite.passes.tidy import DropNoOps
from tests.passes.tidy.cases import Case, floats, ints, tidied, verify

IMAGE: list[int | str] = ["N", 3, 8, 8]

DROPPED = [
    Case("Identity", lambda b: b.relu(b.op("Identity", b.input(IMAGE))), "Relu"),
    Case("Identity before an output", lambda b: b.op("Identity", b.relu(b.input(IMAGE))), "Relu"),
    Case("chain of Identity", lambda b: b.op("Identity", b.op("Identity", b.relu(b.input(IMAGE)))), "Relu"),
    Case("Dropout", lambda b: b.relu(b.op("Dropout", b.input(IMAGE))), "Relu"),
    Case("Dropout, mask unread", lambda b: b.relu(b.op_all("Dropout", b.input(IMAGE), outputs=2)[0]), "Relu"),
    Case("Cast to the same type", lambda b: b.relu(b.op("Cast", b.input(IMAGE), to=1)), "Relu"),
    Case(
        "Transpose that moves nothing",
        lambda b: b.relu(b.op("Transpose", b.input(IMAGE), perm=[0, 1, 2, 3])),
        "Relu",
    ),
    Case(
        "Reshape to the same shape",
        lambda b: b.relu(b.op("Reshape", b.input(IMAGE), b.constant(ints(0, 3, 8, 8)))),
        "Relu",
    ),
    Case(
        "Reshape with an open axis",
        lambda b: b.relu(b.op("Reshape", b.input(IMAGE), b.constant(ints(-1, 3, 8, 8)))),
        "Relu",
    ),
    Case("Flatten of a matrix", lambda b: b.relu(b.op("Flatten", b.input(["N", 5]))), "Relu"),
    Case("Concat of one", lambda b: b.relu(b.op("Concat", b.input(IMAGE), axis=1)), "Relu"),
    Case("Sum of one", lambda b: b.relu(b.op("Sum", b.input(IMAGE))), "Relu"),
    Case(
        "Split into one", lambda b: b.relu(b.op("Split", b.input(IMAGE), b.constant(ints(3)), axis=1)), "Relu"
    ),
    Case(
        "Slice of everything",
        lambda b: b.relu(
            b.op("Slice", b.input(IMAGE), b.constant(ints(0)), b.constant(ints(1 << 62)), b.constant(ints(0)))
        ),
        "Relu",
    ),
    Case(
        "Slice to the very end",
        lambda b: b.relu(
            b.op("Slice", b.input(IMAGE), b.constant(ints(0)), b.constant(ints(8)), b.constant(ints(2)))
        ),
        "Relu",
    ),
    Case("Pad by nothing", lambda b: b.relu(b.op("Pad", b.input(IMAGE), b.constant(ints(*[0] * 8)))), "Relu"),
    Case("Tile once", lambda b: b.relu(b.op("Tile", b.input(IMAGE), b.constant(ints(1, 1, 1, 1)))), "Relu"),
    Case(
        "Expand to its own shape",
        lambda b: b.relu(b.op("Expand", b.input(IMAGE), b.constant(ints(1, 3, 8, 8)))),
        "Relu",
    ),
    Case(
        "Resize by one",
        lambda b: b.relu(
            b.op("Resize", b.input(IMAGE), None, b.constant(np.ones(4, np.float32)), mode="linear")
        ),
        "Relu",
    ),
    Case(
        "MaxPool of single pixels",
        lambda b: b.relu(b.op("MaxPool", b.input(IMAGE), kernel_shape=[1, 1])),
        "Relu",
    ),
    Case(
        "AveragePool of single pixels",
        lambda b: b.relu(b.op("AveragePool", b.input(IMAGE), kernel_shape=[1, 1])),
        "Relu",
    ),
    Case(
        "GlobalAveragePool of one pixel",
        lambda b: b.relu(b.op("GlobalAveragePool", b.input(["N", 4, 1, 1]))),
        "Relu",
    ),
    Case(
        "ReduceMean over axes of length 1",
        lambda b: b.relu(b.op("ReduceMean", b.input(["N", 4, 1]), axes=[2])),
        "Relu",
    ),
    Case("plus zero", lambda b: b.relu(b.op("Add", b.input(IMAGE), b.constant(np.float32(0)))), "Relu"),
    Case(
        "zeros plus",
        lambda b: b.relu(b.op("Add", b.constant(np.zeros((3, 1, 1), np.float32)), b.input(IMAGE))),
        "Relu",
    ),
    Case("minus zero", lambda b: b.relu(b.op("Sub", b.input(IMAGE), b.constant(np.float32(0)))), "Relu"),
    Case(
        "times one",
        lambda b: b.relu(b.op("Mul", b.constant(np.ones((1, 3, 1, 1), np.float32)), b.input(IMAGE))),
        "Relu",
    ),
    Case("over one", lambda b: b.relu(b.op("Div", b.input(IMAGE), b.constant(np.float32(1)))), "Relu"),
    Case(
        "to the power one", lambda b: b.relu(b.op("Pow", b.input(IMAGE), b.constant(np.float32(1)))), "Relu"
    ),
    Case(
        "Where always",
        lambda b: b.relu(
            b.op("Where", b.constant(np.bool_(True)), b.input(IMAGE), b.constant(np.float32(2)))
        ),
        "Relu",
    ),
    Case("Clip without bounds", lambda b: b.relu(b.op("Clip", b.input(IMAGE))), "Relu"),
    Case("Relu twice", lambda b: b.relu(b.relu(b.input(IMAGE))), "Relu"),
    Case("Relu of Sigmoid", lambda b: b.relu(b.op("Sigmoid", b.input(IMAGE))), "Sigmoid"),
    Case("Neg twice", lambda b: b.relu(b.op("Neg", b.op("Neg", b.input(IMAGE)))), "Relu"),
    Case(
        "empty part of a Concat",
        lambda b: b.op(
            "Concat", b.input(["N", 3]), b.constant(np.zeros((0, 3), np.float32)), b.input(["M", 3]), axis=0
        ),
        "Concat",
    ),
]


@pytest.mark.parametrize("case", DROPPED, ids=str)
def test_a_node_without_effect_is_dropped(case: Case) -> None:
    verify(case, DropNoOps())


KEPT = [
    Case("from input to output", lambda b: b.op("Identity", b.input(IMAGE)), "Identity"),
    Case(
        "Dropout whose mask is read",
        lambda b: b.op_all("Dropout", b.input(IMAGE), outputs=2),
        "Dropout",
        dtypes=(np.float32, np.bool_),
    ),
    Case("Cast to another type", lambda b: b.op("Cast", b.input(IMAGE), to=11), "Cast", dtypes=(np.float64,)),
    Case("Transpose that moves", lambda b: b.op("Transpose", b.input(IMAGE), perm=[0, 1, 3, 2]), "Transpose"),
    Case(
        "Reshape to another shape",
        lambda b: b.op("Reshape", b.input(IMAGE), b.constant(ints(0, 3, 64))),
        "Reshape",
    ),
    Case(
        "Slice backwards",
        lambda b: b.op("Slice", b.input(IMAGE), *(b.constant(ints(v)) for v in (-1, -1 << 62, 2, -1))),
        "Slice",
    ),
    Case(
        "Slice of a part",
        lambda b: b.op("Slice", b.input(IMAGE), *(b.constant(ints(v)) for v in (0, 7, 2))),
        "Slice",
    ),
    Case(
        "Pad and crop of equal size",
        lambda b: b.op("Pad", b.input(IMAGE), b.constant(ints(0, 0, 1, 0, 0, 0, -1, 0))),
        "Pad",
    ),
    Case("Expand to more", lambda b: b.op("Expand", b.input(["N", 1]), b.constant(ints(1, 4))), "Expand"),
    Case(
        "Resize that keeps the size but not the grid",
        lambda b: b.op(
            "Resize",
            b.input([1, 1, 4, 4]),
            None,
            b.constant(np.asarray([1, 1, 1.1, 1], dtype=np.float32)),
            mode="linear",
        ),
        "Resize",
    ),
    Case(
        "ReduceMean that drops its axis",
        lambda b: b.op("ReduceMean", b.input(["N", 4, 1]), axes=[2], keepdims=0),
        "ReduceMean",
    ),
    Case(
        "ReduceSum over all axes by an empty list",
        lambda b: b.op("ReduceSum", b.input([3, 4]), b.constant(ints())),
        "ReduceSum",
    ),
    Case(
        "plus zeros that broadcast",
        lambda b: b.op("Add", b.input([1, 3]), b.constant(np.zeros((4, 3), np.float32))),
        "Add",
    ),
    Case(
        "plus zeros that add an axis",
        lambda b: b.op("Add", b.input([3]), b.constant(np.zeros((1, 3), np.float32))),
        "Add",
    ),
    Case("zero minus", lambda b: b.op("Sub", b.constant(np.float32(0)), b.input(IMAGE)), "Sub"),
    Case("one over", lambda b: b.op("Div", b.constant(np.float32(1)), b.input(IMAGE)), "Div"),
    Case("times almost one", lambda b: b.op("Mul", b.input(IMAGE), b.constant(np.float32(1.0001))), "Mul"),
    Case(
        "times one here and two there",
        lambda b: b.op("Mul", b.input([2]), b.constant(np.asarray([1, 2], dtype=np.float32))),
        "Mul",
    ),
    Case(
        "Clip with bounds", lambda b: b.op("Clip", b.input(IMAGE), b.constant(np.float32(-1)), None), "Clip"
    ),
    Case("Sigmoid twice", lambda b: b.op("Sigmoid", b.op("Sigmoid", b.input(IMAGE))), "Sigmoid Sigmoid"),
    Case(
        "plus a zero that the caller may override",
        lambda b: b.op("Add", b.input([2, 3]), _overridable(b, np.zeros(3, np.float32))),
        "Add",
    ),
]


def _overridable(b: Builder, values: npt.ArrayLike) -> gs.Constant:
    constant = b.constant(values)
    b.graph.inputs.append(constant)
    return constant


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_a_node_with_an_effect_is_kept(case: Case) -> None:
    verify(case, DropNoOps())


def test_before_ir_4_a_listed_initializer_is_a_constant() -> None:
    case = Case(
        "plus zero, listed",
        lambda b: b.relu(b.op("Add", b.input([2, 3]), _overridable(b, np.zeros(3, np.float32)))),
        "Relu",
        opset=8,
        ir_version=3,
    )
    verify(case, DropNoOps())


def test_what_stays_is_reported_with_its_reason() -> None:
    outcome = tidied(
        Case("", lambda b: b.op("Identity", b.input(IMAGE), name="through"), "").model(), DropNoOps()
    )
    assert not outcome.changed
    assert [(note.kind, note.subject) for note in outcome.notes] == [("skipped", "through")]
    assert "output of the model" in outcome.notes[0].text


def test_two_outputs_that_are_one_tensor_keep_both_names() -> None:
    def draw(b: Builder) -> gs.Tensor:
        y = b.relu(b.input(IMAGE))
        return y, b.op("Identity", y)

    outcome = tidied(Case("", draw, "").model(), DropNoOps())
    assert [node.op for node in outcome.model.graph.nodes] == ["Relu", "Identity"]


def test_numbers_other_than_the_unit_change_the_result_so_the_proof_can_fail() -> None:
    case = Case("", lambda b: b.op("Add", b.input([2, 3]), b.constant(floats(3))), "")
    wrong = case.model()
    wrong.weights[next(iter(wrong.weights))] = np.zeros(3, np.float32)
    from tests.passes.tidy.cases import prove_same

    with pytest.raises(AssertionError):
        prove_same(case.model(), wrong)
