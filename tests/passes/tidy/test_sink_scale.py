import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite import Context
from graphrewrite.ir import Builder
from graphrewrite.passes.tidy import SinkScale
from graphrewrite.runtime import run, sample_inputs
from tests.passes.tidy.cases import Case, floats, ints, tidied, verify


def project(b: Builder, x: gs.Tensor, bias: bool = True) -> gs.Tensor:
    y = b.op("MatMul", x, b.weight(12, 12))
    y = b.add(y, b.constant(floats(12))) if bias else y
    return b.op("Transpose", b.op("Reshape", y, b.constant(ints(0, -1, 4, 3))), perm=[0, 2, 1, 3])


def attention(b: Builder, where: str = "scores", kind: str = "Mul") -> gs.Tensor:
    x = b.input(["N", 7, 12])
    q, k = project(b, x), project(b, x, bias=False)
    number = b.constant(np.float32(0.577)) if where else None
    if where == "query":
        q = b.op(kind, q, number)
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    if where == "scores":
        scores = b.op(kind, scores, number)
    return b.op("Softmax", scores)


PARTS = "Add MatMul MatMul MatMul Reshape Reshape Softmax Transpose Transpose Transpose"
SUNK = [
    Case("scores times a number", attention, PARTS),
    Case("scores over a number", lambda b: attention(b, kind="Div"), PARTS),
    Case("queries times a number", lambda b: attention(b, "query"), PARTS),
    Case(
        "a view of a convolution",
        lambda b: b.op("Mul", b.op("Flatten", b.conv(b.input(["N", 3, 8, 8]), 4, 3)), b.constant(floats(1))),
        "Conv Flatten",
    ),
]


@pytest.mark.parametrize("case", SUNK, ids=str)
def test_a_scale_moves_into_weights(case: Case) -> None:
    verify(case, SinkScale())


KEPT = [
    Case(
        "behind something that is not linear",
        lambda b: b.op("Mul", b.op("Softmax", attention(b, where="")), b.constant(np.float32(2))),
        "",
    ),
    Case(
        "scores that are read twice",
        lambda b: (lambda s: [b.op("Mul", s, b.constant(np.float32(2))), s])(
            b.op("Transpose", project(b, b.input(["N", 7, 12])))
        ),
        "",
    ),
    Case("a vector", lambda b: b.op("Mul", project(b, b.input(["N", 7, 12])), b.constant(floats(3))), ""),
    Case("over", lambda b: b.op("Div", b.constant(np.float32(2)), project(b, b.input(["N", 7, 12]))), ""),
    Case(
        "a number with more axes",
        lambda b: b.op(
            "Mul", b.op("Flatten", b.conv(b.input(["N", 3, 8, 8]), 4, 3)), b.constant(floats(1, 1, 1))
        ),
        "",
    ),
]


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_a_scale_that_is_none_stays(case: Case) -> None:
    assert not tidied(case.model(), SinkScale()).changed


def test_a_shared_weight_is_not_scaled() -> None:
    def draw(b: Builder) -> gs.Tensor:
        x, w = b.input(["N", 6]), b.weight(6, 6)
        return b.op("Mul", b.op("Flatten", b.op("MatMul", x, w)), b.constant(np.float32(2))), b.op(
            "MatMul", b.relu(x), w
        )

    assert not tidied(Case("", draw, "").model(), SinkScale()).changed


def test_a_tensor_with_other_numbers_has_another_name() -> None:
    model = SUNK[0].model()
    result = SinkScale().run(model.clone(), Context()).model
    names = {t.name for n in model.graph.nodes for t in n.outputs} & {
        t.name for n in result.graph.nodes for t in n.outputs
    }
    feeds = sample_inputs(model, seed=1)
    old, new = run(model, feeds, sorted(names)), run(result, feeds, sorted(names))
    assert len(names) >= 5
    for name in names:
        np.testing.assert_allclose(
            new[name].astype(float), old[name].astype(float), rtol=1e-4, atol=1e-5, err_msg=name
        )
