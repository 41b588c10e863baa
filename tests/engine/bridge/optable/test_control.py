"""If, Loop and Scan against onnxruntime: captured tensors, no rounds at all, nesting, directions, weights in bodies."""

import copy
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import parser

from graphrewrite.bridge import GraphModule
from graphrewrite.ir import Array, Model
from tests.engine.bridge.backend import difference


def parsed(text: str, opset: int = 17) -> onnx.ModelProto:
    """Return a model from onnx's text form of its graph."""
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')


def module_of(text: str, opset: int = 17) -> GraphModule:
    return GraphModule(Model.from_proto(parsed(text, opset)))


def equal(text: str, feeds: Mapping[str, Array], opset: int = 17) -> bool:
    """Whether bridge and onnxruntime agree in all outputs."""
    proto = parsed(text, opset)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = GraphModule(Model.from_proto(proto)).eval().run(feeds)
    why = [
        difference(np.asarray(w), f, 1e-5, 1e-6)
        for w, f in zip(session.run(None, feeds), found.values(), strict=True)
    ]
    print(why)
    return not any(why)


X = np.arange(6, dtype=np.float32).reshape(3, 2)

CHOICE = """
g (float[N, 2] x, bool c) => (float[M, 2] y)
<float[2] w = {2.0, 3.0}>
{
    h = Neg(x)
    y = If(c) <
        then_branch = t () => (float[M, 2] a) { k = Mul(h, w)  a = Add(k, x) },
        else_branch = e () => (float[M, 2] b) { k = Constant<value = float[2] {5.0, 7.0}>()  b = Mul(h, k) }
    >
}"""


@pytest.mark.parametrize("chosen", [True, False])
def test_a_choice_while_running(chosen: bool) -> None:
    assert equal(CHOICE, {"x": X, "c": np.array(chosen)})


def test_weights_of_branches_are_trained_where_their_branch_ran() -> None:
    module = module_of(CHOICE)
    weights = dict(module.named_parameters())
    assert set(weights) == {"w", "k"}
    module(torch.tensor(X), torch.tensor(False)).sum().backward()
    assert weights["w"].grad is None and weights["k"].grad is not None
    assert weights["k"].grad.tolist() == [-6, -9]
    with torch.no_grad():
        weights["k"].fill_(4)
    again = GraphModule(module.write_back())
    assert torch.equal(again.weight_named("k"), torch.full((2,), 4.0))


def test_a_settled_choice_leaves_its_branch_only_and_hides_its_names() -> None:
    # Both nodes call things by the same names inside; none may reach the other.
    text = """
    g (float[N, 2] x) => (float[M, 2] y, float[M, 2] z)
    <bool yes = {1}, bool no = {0}>
    {
        y = If(yes) <
            then_branch = t1 () => (float[M, 2] a) { k = Constant<value = float[2] {5.0, 7.0}>()  a = Mul(x, k) },
            else_branch = e1 () => (float[M, 2] b) { b = Neg(x) }
        >
        z = If(no) <
            then_branch = t2 () => (float[M, 2] b) { b = Abs(x) },
            else_branch = e2 () => (float[M, 2] a) { k = Constant<value = float[2] {1.0, -1.0}>()  a = Add(x, k) }
        >
    }"""
    assert equal(text, {"x": X})
    module = module_of(text)
    assert not any("If" in str(node.target) for node in module.graph.nodes)
    # A branch that is never taken keeps its weights as they are.
    assert all(name in ("k", "k@2") for name, _ in module.named_parameters())


def test_a_choice_by_sizes_reads_no_tensor() -> None:
    text = """
    g (float[N, 2] x) => (float[M, 2] y)
    <int64 zero = {0}, int64 three = {3}>
    {
        s = Shape(x)
        n = Gather(s, zero)
        c = Equal(n, three)
        y = If(c) <
            then_branch = t () => (float[M, 2] a) { f = Cast<to = 1>(n)  a = Mul(x, f) },
            else_branch = e () => (float[M, 2] b) { b = Identity(x) }
        >
    }"""
    for rows in (X, X[:2]):
        assert equal(text, {"x": rows})
    assert "to_numbers" not in module_of(text).code


COUNTED = """
g (float[N, 2] x, int64 m, bool c) => (float[N, 2] y, float[K, N, 2] rows, int64[K] turns)
{
    twice = Add(x, x)
    y, rows, turns = Loop(m, c, x) <
        body = b (int64 i, bool go, float[N, 2] v) => (bool on, float[N, 2] next, float[N, 2] row, int64 turn) {
            f = Cast<to = 1>(i)
            part = Mul(twice, f)
            next = Add(v, part)
            row = Neg(next)
            s = ReduceSum<keepdims = 0>(next)
            limit = Constant<value = float {60.0}>()
            on = Less(s, limit)
            turn = Identity(i)
        }
    >
}"""


@pytest.mark.parametrize("count", [0, 1, 3, 50])
@pytest.mark.parametrize("condition", [True, False])
def test_loops_by_count_and_condition(count: int, condition: bool) -> None:
    assert equal(COUNTED, {"x": X, "m": np.array(count), "c": np.array(condition)})


@pytest.mark.parametrize("reads", ["m, , x", ", c, x", "m, c, x"])
def test_loops_without_count_or_condition(reads: str) -> None:
    kinds = {"m": "int64 m", "c": "bool c", "x": "float[2] x"}
    inputs = [name for name in reads.split(", ") if name]
    text = f"""
    g ({", ".join(kinds[name] for name in inputs)}) => (float[2] y)
    {{
        y = Loop({reads}) <
            body = b (int64 i, bool go, float[2] v) => (bool on, float[2] next) {{
                next = Add(v, v)
                s = ReduceSum<keepdims = 0>(next)
                limit = Constant<value = float {{30.0}}>()
                on = Less(s, limit)
            }}
        >
    }}"""
    feeds = {"x": np.ones(2, np.float32), "m": np.array(3), "c": np.array(True)}
    assert equal(text, {name: feeds[name] for name in inputs})


def test_rounds_number_what_they_read() -> None:
    text = """
    g (float[N, 2] x) => (float[2] y, float[K, 2] rows)
    <int64 zero = {0}, bool yes = {1}, float[2] start = {0.0, 0.0}>
    {
        s = Shape(x)
        n = Gather(s, zero)
        y, rows = Loop(n, yes, start) <
            body = b (int64 i, bool go, float[2] v) => (bool on, float[2] next, float[2] row) {
                row = Gather<axis = 0>(x, i)
                next = Add(v, row)
                on = Identity(go)
            }
        >
    }"""
    for rows in (X, X[:1], X[:0]):
        assert equal(text, {"x": rows})
    module = module_of(text)
    assert "to_numbers" not in module.code and not any(
        "to_numbers" in inner.code for inner in module.modules() if isinstance(inner, torch.fx.GraphModule)
    )


def test_rounds_numbered_by_vectors_of_one() -> None:
    text = """
    g (float[4] x, int64[1] m, bool[1] c) => (float[K, L] rows)
    {
        rows = Loop(m, c) <
            body = b (int64[1] i, bool[1] go) => (bool[1] on, float[L] row) {
                two = Constant<value = int64[1] {2}>()
                end = Add(i, two)
                row = Slice(x, i, end)
                on = Identity(go)
            }
        >
    }"""
    assert equal(text, {"x": np.arange(4, dtype=np.float32), "m": np.array([3]), "c": np.array([True])})


NESTED = """
g (float[2] x, int64 m, bool c) => (float[2] y)
<float[2] w = {1.5, -0.5}, bool yes = {1}>
{
    y = Loop(m, yes, x) <
        body = outer (int64 i, bool go, float[2] v) => (bool on, float[2] next) {
            on = Identity(go)
            next = Loop(i, go, v) <
                body = inner (int64 j, bool go2, float[2] u) => (bool on2, float[2] made) {
                    on2 = Identity(go2)
                    made = If(c) <
                        then_branch = t () => (float[2] a) { a = Mul(u, w) },
                        else_branch = e () => (float[2] b) { p = Add(u, x)  b = Sub(p, v) }
                    >
                }
            >
        }
    >
}"""


@pytest.mark.parametrize("chosen", [True, False])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_bodies_inside_bodies(count: int, chosen: bool) -> None:
    feeds = {"x": np.array([1, 2], np.float32), "m": np.array(count), "c": np.array(chosen)}
    assert equal(NESTED, feeds)


def test_gradients_flow_through_rounds() -> None:
    # 0 + 1 + 2 + 3 products with w: x * w ** 6.
    module = module_of(NESTED)
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    module(x, torch.tensor(4), torch.tensor(True)).sum().backward()
    w = torch.tensor([1.5, -0.5])
    grad = module.weight_named("w").grad
    assert x.grad is not None and grad is not None
    torch.testing.assert_close(x.grad, w**6)
    torch.testing.assert_close(grad, 6 * torch.tensor([1.0, 2.0]) * w**5)


def test_bodies_follow_their_module() -> None:
    module = copy.deepcopy(module_of(NESTED)).double().eval()
    assert not any(inner.training for inner in module.modules())
    found = module(torch.ones(2, dtype=torch.float64), torch.tensor(4), torch.tensor(True))
    torch.testing.assert_close(found, torch.tensor([1.5, -0.5], dtype=torch.float64) ** 6)
    assert set(module.state_dict()) == {"w"}
    # Constants inside a body are no part of the state either.
    assert not module_of(COUNTED).state_dict() and not copy.deepcopy(module_of(COUNTED)).state_dict()


def test_compiled_loops_are_still_right() -> None:
    module = module_of(COUNTED).eval()
    compiled = torch.compile(module, backend="eager")
    for count in (0, 2, 3):
        fed = (torch.tensor(X), torch.tensor(count), torch.tensor(True))
        for found, wanted in zip(compiled(*fed), module(*fed), strict=True):
            assert torch.equal(found, wanted)


SCAN = """
g (float[2] h, float[T, 2] a, float[2, T] b) => (float[2] y, float[2, T] rows, float[T, 2] sums)
<float[2] w = {{0.5, -1.0}}>
{{
    y, rows, sums = Scan<num_scan_inputs = 2, {settings}body = r (float[2] s, float[2] p, float[2] q)
        => (float[2] next, float[2] row, float[2] total) {{
            k = Mul(s, w)
            next = Add(k, p)
            row = Mul(next, q)
            total = Add(p, q)
        }}>(h, a, b)
}}"""


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize(("inward", "outward"), [((0, 0), (0, 0)), ((1, 0), (0, 1)), ((0, 1), (1, 0))])
@pytest.mark.parametrize("axes", [([0, 1], [1, 0]), ([-2, -1], [-1, 0])])
def test_scans(
    steps: int, inward: tuple[int, int], outward: tuple[int, int], axes: tuple[list[int], list[int]]
) -> None:
    settings = (
        f"scan_input_axes = {axes[0]}, scan_output_axes = {axes[1]}, "
        f"scan_input_directions = {list(inward)}, scan_output_directions = {list(outward)}, "
    )
    rng = np.random.default_rng(0)
    feeds = {
        "h": np.ones(2, np.float32),
        "a": rng.standard_normal((steps, 2)).astype(np.float32),
        "b": rng.standard_normal((2, steps)).astype(np.float32),
    }
    assert equal(SCAN.format(settings=settings), feeds)


BATCHED = """
g (int64[B] n, float[B, 2] h, float[B, T, 2] a) => (float[B, 2] y, float[B, T, 2] rows)
{
    y, rows = Scan<num_scan_inputs = 1, directions = [%d], body = r (float[2] s, float[2] p)
        => (float[2] next, float[2] row) { next = Add(s, p)  row = Mul(next, p) }>(n, h, a)
}"""


@pytest.mark.parametrize("backwards", [0, 1])
def test_scans_of_a_batch_of_sequences(backwards: int) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        "n": np.array([4, 1, 3]),
        "h": np.zeros((3, 2), np.float32),
        "a": rng.standard_normal((3, 4, 2)).astype(np.float32),
    }
    assert equal(BATCHED % backwards, feeds, opset=8)


def test_statistics_inside_a_loop_move_while_training() -> None:
    text = """
    g (float[N, 2] x, int64 m) => (float[N, 2] y)
    <float[2] scale = {1.0, 1.0}, float[2] shift = {0.0, 0.0}, float[2] mean = {0.0, 0.0}, float[2] var = {1.0, 1.0},
     bool yes = {1}>
    {
        y = Loop(m, yes, x) <
            body = b (int64 i, bool go, float[N, 2] v) => (bool on, float[N, 2] next) {
                on = Identity(go)
                next = If(yes) <
                    then_branch = t () => (float[N, 2] a) { a = BatchNormalization(v, scale, shift, mean, var) },
                    else_branch = e () => (float[N, 2] b) { b = Neg(v) }
                >
            }
        >
    }"""
    assert equal(text, {"x": X, "m": np.array(2)})
    module = module_of(text)
    module.eval()(torch.tensor(X), torch.tensor(2))
    assert module.weight_named("mean").tolist() == [0, 0]
    module.train()(torch.tensor(X), torch.tensor(1))
    # By hand: 0.9 * 0 + 0.1 * the mean of each column.
    torch.testing.assert_close(module.weight_named("mean"), torch.tensor([0.2, 0.3]))
