import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import pytest

from graphrewrite import Context, Model
from graphrewrite.ir import Builder
from graphrewrite.passes.tidy import FoldConstants
from tests.passes.tidy.cases import Case, floats, ints, operators, tidied, verify

BIG = 1 << 19  # floats in 2 MB


def node(b: Builder, values: npt.ArrayLike) -> gs.Variable:
    return b.op("Constant", value=gs.Constant("", np.asarray(values)))


FOLDED = [
    Case(
        "sum of constants",
        lambda b: b.add(b.input([3]), b.add(b.constant(floats(3)), b.constant(floats(3)))),
        "Add",
    ),
    Case(
        "chain of constants",
        lambda b: b.add(
            b.input([3]), b.relu(b.op("Exp", b.add(b.constant(floats(3)), b.constant(floats(3)))))
        ),
        "Add",
    ),
    Case(
        "Constant nodes",
        lambda b: b.add(b.input([3]), b.add(node(b, floats(3)), node(b, np.float32(2)))),
        "Add",
    ),
    Case(
        "transposed weight",
        lambda b: b.op("MatMul", b.input(["N", 6]), b.op("Transpose", b.weight(5, 6))),
        "MatMul",
    ),
    Case("scalar", lambda b: b.op("Mul", b.input([3]), b.op("Sqrt", b.constant(np.float32(4)))), "Mul"),
    Case(
        "small Expand",
        lambda b: b.add(b.input([4, 3]), b.op("Expand", b.constant(floats(3)), b.constant(ints(4, 3)))),
        "Add",
    ),
    Case(
        "Range",
        lambda b: b.op(
            "Add", b.input([5], dtype=np.int64), b.op("Range", *(b.constant(np.int64(v)) for v in (0, 10, 2)))
        ),
        "Add",
        dtypes=(np.int64,),
    ),
    Case(
        "size of a static axis",
        lambda b: b.op(
            "Mul",
            b.input(["N", 6]),
            b.op(
                "Cast",
                b.op("Gather", b.op("Shape", b.relu(b.input(["N", 6]))), b.constant(np.int64(1))),
                to=1,
            ),
        ),
        "Mul",
    ),
    Case(
        "a constant output",
        lambda b: [b.relu(b.input([3])), b.add(b.constant(floats(3)), b.constant(floats(3)))],
        "Constant Relu",
    ),
]


@pytest.mark.parametrize("case", FOLDED, ids=str)
def test_what_hangs_on_constants_is_computed_once(case: Case) -> None:
    verify(case, FoldConstants())


KEPT = [
    Case(
        "random numbers",
        lambda b: b.add(b.input([3]), b.op("RandomNormal", shape=[3], seed=1.0)),
        "Add RandomNormal",
    ),
    Case(
        "random numbers like a constant",
        lambda b: b.add(b.input([3]), b.op("RandomUniformLike", b.constant(floats(3)), seed=1.0)),
        "Add RandomUniformLike",
    ),
    Case(
        "a quantized weight",
        lambda b: b.op(
            "MatMul",
            b.input([2, 3]),
            b.op("DequantizeLinear", b.constant(np.ones((3, 4), np.int8)), b.constant(np.float32(0.5))),
        ),
        "DequantizeLinear MatMul",
    ),
    Case(
        "the size of a batch",
        lambda b: b.op("Add", b.op("Shape", b.input(["N", 6])), b.constant(ints(1, 1))),
        "Add Shape",
        dtypes=(np.int64,),
    ),
    Case(
        "a default the caller may override",
        lambda b: b.add(b.input([3]), b.op("Exp", overridable(b, floats(3)))),
        "Add Exp",
    ),
    Case(
        "a shape the caller may override",
        lambda b: b.op("Gather", b.input([3]), b.op("Add", overridable(b, ints(1)), b.constant(ints(1)))),
        "Add Gather",
    ),
]


def overridable(b: Builder, values: npt.ArrayLike) -> gs.Constant:
    constant = b.constant(values)
    b.graph.inputs.append(constant)
    return constant


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_what_may_differ_between_runs_stays(case: Case) -> None:
    outcome = FoldConstants().run(case.model(), Context())
    assert operators(outcome.model) == case.after


def large(kind: str) -> Model:
    b = Builder()
    x = b.input([1])
    size = b.constant(ints(BIG))
    if kind == "Expand":
        made = b.op("Expand", b.constant(floats(1)), size)
    elif kind == "ConstantOfShape":
        made = b.op("ConstantOfShape", size)
    else:
        made = b.op("Tile", b.constant(floats(1)), size)
    return b.model(b.add(x, made))


@pytest.mark.parametrize("kind", ["Expand", "ConstantOfShape", "Tile"])
def test_the_file_does_not_blow_up(kind: str) -> None:
    outcome = tidied(large(kind), FoldConstants())
    assert operators(outcome.model) == f"Add {kind}"
    assert any(note.kind == "skipped" and "2.1 MB" in note.text for note in outcome.notes)
    assert operators(FoldConstants(max_constant_bytes=1 << 22).run(large(kind), Context()).model) == "Add"


def test_a_large_result_may_replace_what_is_as_large() -> None:
    b = Builder()
    weight = b.constant(np.ones((BIG, 2), np.float32))
    model = b.model(b.op("MatMul", b.input([1, 2]), b.op("Transpose", weight)))
    assert operators(FoldConstants().run(model, Context()).model) == "MatMul"


def test_a_large_result_may_not_stand_beside_what_it_was_made_from() -> None:
    b = Builder()
    weight = b.constant(np.ones((BIG, 2), np.float32))
    x = b.op("Gather", weight, b.input([1], dtype=np.int64))
    model = b.model(b.op("MatMul", x, b.op("Transpose", weight)))
    outcome = FoldConstants().run(model, Context())
    assert operators(outcome.model) == "Gather MatMul Transpose"
    assert any("4.2 MB" in note.text for note in outcome.notes)


def scaled(dtype: type[np.generic], inputs: int) -> Model:
    """A product whose weight [inputs, 10] is made of codes when the model is loaded."""
    b = Builder()
    codes = b.constant(np.ones((inputs, 10), dtype))
    weight = b.op("Mul", b.op("Cast", codes, to=1), b.constant(np.float32(0.5)))
    return b.model(b.op("MatMul", b.input([2, inputs]), weight))


@pytest.mark.parametrize("inputs", [10, 1000], ids=["whose values are known to all", "large"])
def test_a_weight_filed_in_bytes_stays_small(inputs: int) -> None:
    outcome = tidied(scaled(np.int8, inputs), FoldConstants())
    assert operators(outcome.model) == "Cast MatMul Mul"
    assert any(note.kind == "skipped" and "unpacked when" in note.text for note in outcome.notes)


@pytest.mark.parametrize(("dtype", "inputs"), [(np.int8, 6), (np.bool_, 10), (np.float16, 10)])
def test_a_few_bytes_and_what_is_not_packed_are_computed(dtype: type[np.generic], inputs: int) -> None:
    assert operators(tidied(scaled(dtype, inputs), FoldConstants()).model) == "MatMul"


def test_types_survive() -> None:
    for dtype in (np.float64, np.float16, np.int8, np.bool_):
        b = Builder()
        values = np.asarray([[0, 1], [1, 0]], dtype=dtype)
        b.input([1])
        model = b.model(b.op("Identity", b.op("Transpose", b.constant(values))), dtypes=(dtype,))
        result = FoldConstants().run(model, Context()).model
        (constant,) = result.nodes("Constant")
        assert constant.attrs["value"].values.dtype == dtype


def test_an_operator_without_a_kernel_is_left_and_the_rest_is_folded() -> None:
    b = Builder(opset=21, ir_version=10)
    odd = b.op("Hardmax", b.constant(floats(3).astype(np.float64)))  # onnxruntime has it in float32 only
    fine = b.op("Exp", b.constant(floats(3).astype(np.float64)))
    x = b.input([3], dtype=np.float64)
    outcome = FoldConstants().run(b.model(b.add(b.add(x, odd), fine), dtypes=(np.float64,)), Context())
    assert operators(outcome.model) == "Add Add Hardmax"
    assert any(note.kind == "skipped" and "cannot compute" in note.text for note in outcome.notes)


def test_stored_bytes_are_handed_on_untouched() -> None:
    b = Builder()
    model = b.model(b.op("Mul", b.input([2]), node(b, floats(2))))
    proto = model.to_proto()
    proto.graph.node[0].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(floats(2), "any"))
    proto.graph.node[0].attribute[0].t.doc_string = "kept"
    result = FoldConstants().run(Model.from_proto(proto), Context()).model.to_proto()
    assert [(t.name, t.doc_string) for t in result.graph.initializer] == [
        (proto.graph.node[0].output[0], "kept")
    ]
