import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder
from graphrewrite.passes.tidy import MergeNeighbours
from tests.passes.tidy.cases import Case, ints, tidied, verify


def reshape(b: Builder, x: gs.Tensor, *target: int) -> gs.Variable:
    return b.op("Reshape", x, b.constant(ints(*target)))


def cut(b: Builder, x: gs.Tensor, axis: int, start: int, end: int, step: int = 1) -> gs.Variable:
    return b.op("Slice", x, *(b.constant(ints(v)) for v in (start, end, axis, step)))


def squeezed(b: Builder, op: str, x: gs.Tensor, *axes: int) -> gs.Variable:
    return b.op(op, x, b.constant(ints(*axes)))


def clip(b: Builder, x: gs.Tensor, low: float | None, high: float | None) -> gs.Variable:
    bounds = [None if v is None else b.constant(np.float32(v)) for v in (low, high)]
    return b.op("Clip", x, *bounds)


MERGED = [
    Case(
        "Reshape, Reshape", lambda b: reshape(b, reshape(b, b.input(["N", 6, 4]), 0, 24), 0, 4, 6), "Reshape"
    ),
    Case(
        "Reshape and back",
        lambda b: b.relu(reshape(b, reshape(b, b.input(["N", 6, 4]), 0, 24), 0, 6, 4)),
        "Relu",
    ),
    Case("Flatten, Reshape", lambda b: reshape(b, b.op("Flatten", b.input(["N", 6, 4])), 0, 4, 6), "Reshape"),
    Case(
        "Unsqueeze, Squeeze",
        lambda b: b.relu(squeezed(b, "Squeeze", squeezed(b, "Unsqueeze", b.input(["N", 4]), 1), 1)),
        "Relu",
    ),
    Case(
        "Unsqueeze twice",
        lambda b: squeezed(b, "Unsqueeze", squeezed(b, "Unsqueeze", b.input(["N", "M"]), 1), 0),
        "Unsqueeze",
    ),
    Case(
        "Squeeze twice",
        lambda b: squeezed(b, "Squeeze", squeezed(b, "Squeeze", b.input(["N", 1, "M", 1]), 3), 1),
        "Squeeze",
    ),
    Case(
        "one Reshape read by two Reshapes",
        lambda b: (lambda y: [reshape(b, y, 0, 4, 6), reshape(b, y, 0, 3, 8)])(
            reshape(b, b.input(["N", 6, 4]), 0, 24)
        ),
        "Reshape Reshape",
    ),
    Case(
        "Transpose of axes of length 1, Reshape",
        lambda b: reshape(b, b.op("Transpose", b.input(["N", 1, 6, 4]), perm=[0, 2, 1, 3]), 0, 24),
        "Reshape",
    ),
    Case(
        "Transpose, Transpose",
        lambda b: b.op(
            "Transpose", b.op("Transpose", b.input(["N", 3, 4, 5]), perm=[0, 2, 3, 1]), perm=[0, 2, 1, 3]
        ),
        "Transpose",
    ),
    Case(
        "Transpose and back",
        lambda b: b.relu(
            b.op(
                "Transpose", b.op("Transpose", b.input(["N", 3, 4, 5]), perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2]
            )
        ),
        "Relu",
    ),
    Case(
        "Cast up and up",
        lambda b: b.op("Cast", b.op("Cast", b.input([3], dtype=np.int32), to=7), to=11),
        "Cast",
        dtypes=(np.float64,),
    ),
    Case("Cast up and back", lambda b: b.relu(b.op("Cast", b.op("Cast", b.input([3]), to=11), to=1)), "Relu"),
    Case(
        "ReduceMean, Squeeze",
        lambda b: squeezed(b, "Squeeze", b.op("ReduceMean", b.input(["N", 3, 4]), axes=[2]), 2),
        "ReduceMean",
    ),
    Case(
        "ReduceMean, Flatten",
        lambda b: b.op("Flatten", b.op("ReduceMean", b.input(["N", 3, 4, 4]), axes=[2, 3])),
        "ReduceMean",
    ),
    Case(
        "ReduceMax, Unsqueeze",
        lambda b: squeezed(b, "Unsqueeze", b.op("ReduceMax", b.input(["N", 3, 4]), axes=[1], keepdims=0), 1),
        "ReduceMax",
    ),
    Case(
        "ArgMax, Squeeze",
        lambda b: squeezed(b, "Squeeze", b.op("ArgMax", b.input(["N", 3, 4]), axis=1), 1),
        "ArgMax",
        dtypes=(np.int64,),
    ),
    Case("Slice along two axes", lambda b: cut(b, cut(b, b.input(["N", 8, 8]), 1, 1, 7), 2, 0, 4), "Slice"),
    Case("Slice of a Slice", lambda b: cut(b, cut(b, b.input(["N", 8]), 1, 1, 7), 1, 2, 5), "Slice"),
    Case(
        "every second of a Slice", lambda b: cut(b, cut(b, b.input(["N", 9]), 1, 1, 8), 1, 1, 99, 2), "Slice"
    ),
    Case(
        "Slices of one Slice",
        lambda b: (lambda y: [cut(b, y, 2, 0, 4), cut(b, y, 2, 4, 8)])(
            cut(b, b.input(["N", 8, 8]), 1, 0, 8, 2)
        ),
        "Slice Slice",
    ),
    Case(
        "Concat of a Concat",
        lambda b: b.concat(b.concat(b.input(["N", 2]), b.input(["N", 3])), b.input(["N", 4])),
        "Concat",
    ),
    Case("Clip, Clip", lambda b: clip(b, clip(b, b.input([9]), -1, 2), -2, 1), "Clip"),
    Case("Clip within a Clip", lambda b: clip(b, clip(b, b.input([9]), -1, 1), -2, 2), "Clip"),
    Case("Relu, Clip", lambda b: clip(b, b.relu(b.input([9])), None, 1), "Clip"),
    Case(
        "Relu, Clip, operator set 10",
        lambda b: b.op("Clip", b.relu(b.input([9])), max=1.0),
        "Clip",
        opset=10,
        ir_version=5,
    ),
    Case("Clip from zero, Relu", lambda b: b.relu(clip(b, b.input([9]), 0, 1)), "Clip"),
    Case(
        "Gather one, Unsqueeze",
        lambda b: squeezed(
            b, "Unsqueeze", b.op("Gather", b.input(["N", 5, 4]), b.constant(np.int64(2)), axis=1), 1
        ),
        "Gather",
    ),
    Case(
        "Slice one, Squeeze",
        lambda b: squeezed(b, "Squeeze", cut(b, b.input(["N", 5, 4]), 1, 2, 3), 1),
        "Gather",
    ),
    Case(
        "Slice the last, Squeeze",
        lambda b: squeezed(b, "Squeeze", cut(b, b.input(["N", 5, 4]), 1, -1, 1 << 62), 1),
        "Gather",
    ),
    Case(
        "Pad, Pad",
        lambda b: b.op(
            "Pad",
            b.op("Pad", b.input([1, 2, 3]), b.constant(ints(0, 0, 1, 0, 0, 2))),
            b.constant(ints(0, 0, 1, 0, 1, 0)),
        ),
        "Pad",
    ),
    Case(
        "Split, Concat",
        lambda b: b.relu(
            b.concat(*b.op_all("Split", b.input(["N", 6]), b.constant(ints(2, 4)), outputs=2, axis=1))
        ),
        "Relu",
    ),
]


@pytest.mark.parametrize("case", MERGED, ids=str)
def test_neighbours_become_one_node(case: Case) -> None:
    verify(case, MergeNeighbours())


KEPT = [
    Case(
        "Reshape that is read twice",
        lambda b: (lambda y: [b.relu(y), reshape(b, y, 0, 4, 6)])(reshape(b, b.input(["N", 6, 4]), 0, 24)),
        "Relu Reshape Reshape",
    ),
    Case(
        "two sizes that vary and move",
        lambda b: reshape(b, b.op("Flatten", b.input(["N", "M", 4]), axis=2), -1, 2),
        "Reshape",
    ),
    Case(
        "Transpose that mixes, Reshape",
        lambda b: reshape(b, b.op("Transpose", b.input(["N", 2, 6, 4]), perm=[0, 2, 1, 3]), 0, 48),
        "Reshape Transpose",
    ),
    Case("Cast that loses", lambda b: b.op("Cast", b.op("Cast", b.input([5]), to=7), to=1), "Cast Cast"),
    Case("Cast down and up", lambda b: b.op("Cast", b.op("Cast", b.input([5]), to=10), to=1), "Cast Cast"),
    Case(
        "ReduceMean, Reshape to something else",
        lambda b: reshape(b, b.op("ReduceMean", b.input(["N", 6, 4]), axes=[2]), 0, 2, 3),
        "ReduceMean Reshape",
    ),
    Case(
        "Slice backwards of a Slice",
        lambda b: cut(b, cut(b, b.input(["N", 8]), 1, 1, 7), 1, -1, -99, -1),
        "Slice Slice",
    ),
    Case(
        "Slice from the end of a Slice",
        lambda b: cut(b, cut(b, b.input(["N", 8]), 1, 1, 7), 1, -2, 99),
        "Slice Slice",
    ),
    Case(
        "Concat along another axis",
        lambda b: b.concat(b.concat(b.input(["N", 2]), b.input(["N", 3])), b.input(["M", 5]), axis=0),
        "Concat Concat",
    ),
    Case("Clips that do not meet", lambda b: clip(b, clip(b, b.input([9]), -3, -2), 1, 2), "Clip Clip"),
    Case(
        "Slice one of an unknown number, Squeeze",
        lambda b: squeezed(b, "Squeeze", cut(b, b.input(["N", "M", 4]), 1, 2, 3), 1),
        "Slice Squeeze",
    ),
    Case(
        "Pads of different kinds",
        lambda b: b.op(
            "Pad",
            b.op("Pad", b.input([1, 2, 3]), b.constant(ints(0, 0, 1, 0, 0, 1))),
            b.constant(ints(0, 0, 1, 0, 0, 1)),
            mode="edge",
        ),
        "Pad Pad",
    ),
    Case(
        "Split, Concat in another order",
        lambda b: b.concat(
            *reversed(b.op_all("Split", b.input(["N", 6]), b.constant(ints(3, 3)), outputs=2, axis=1))
        ),
        "Concat Split",
    ),
]


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_neighbours_that_mean_something_else_stay(case: Case) -> None:
    model = case.model()
    outcome = tidied(model, MergeNeighbours())
    if case.name != "two sizes that vary and move":
        assert not outcome.changed
    assert sorted(node.op for node in outcome.model.graph.nodes) == sorted(case.after.split())


def test_a_merged_reshape_leaves_the_batch_open() -> None:
    case = Case("", lambda b: reshape(b, reshape(b, b.input(["N", 6, 4]), 0, 24), 0, 4, 6), "")
    outcome = tidied(case.model(), MergeNeighbours())
    (node,) = outcome.model.nodes("Reshape")
    assert node.inputs[1].values.tolist() == [0, 4, 6]
