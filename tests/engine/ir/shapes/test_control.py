"""Bodies: If, Loop, Scan and model-local functions, drawn as text."""

import onnx
import onnx.parser
import pytest

from graphrewrite.ir import Model, ShapeInfo, Sym, infer


def told(text: str) -> ShapeInfo:
    return infer(Model.from_proto(onnx.parser.parse_model(text)))


HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def test_a_known_condition_takes_its_branch() -> None:
    info = told(
        HEAD
        + """ agraph (float[batch, 1, 4] x) => (float[] y) {
            sizes = Shape (x)
            one = Constant <value = int64 {1}> ()
            axis = Constant <value = int64 {1}> ()
            size = Gather (sizes, axis)
            is_one = Equal (size, one)
            y = If (is_one) <
                then_branch = yes () => (float[] a) {
                    axes = Constant <value = int64[1] {1}> ()
                    a = Squeeze (x, axes)
                },
                else_branch = no () => (float[] b) { b = Identity (x) }
            >
        }"""
    )
    assert [str(dim) for dim in info.shape("y") or ()] == ["batch", "4"]
    assert [str(dim) for dim in info.shape("a") or ()] == ["batch", "4"]  # bodies are told of as well


def test_an_open_condition_leaves_what_both_branches_say() -> None:
    info = told(
        HEAD
        + """ agraph (float[batch, 6] x, bool c) => (y, z) {
            y, z = If (c) <
                then_branch = yes () => (a, d) {
                    t = Constant <value = int64[2] {-1, 3}> ()
                    a = Reshape (x, t)
                    d = Relu (x)
                },
                else_branch = no () => (b, e) {
                    u = Constant <value = int64[2] {-1, 6}> ()
                    b = Reshape (x, u)
                    e = Shape (x)
                }
            >
        }"""
    )
    shape = info.shape("y")
    assert shape is not None and [isinstance(dim, Sym) and dim.sample == (None, None) for dim in shape] == [
        True,
        True,
    ]
    assert info.shape("z") is None  # ranks 2 and 1


def test_a_condition_on_sizes_is_followed_in_each_world() -> None:
    info = told(
        HEAD
        + """ agraph (float[batch, 6] x) => (y) {
            sizes = Shape (x)
            axis = Constant <value = int64 {0}> ()
            two = Constant <value = int64 {2}> ()
            size = Gather (sizes, axis)
            c = Equal (size, two)
            y = If (c) <
                then_branch = yes () => (a) { t = Constant <value = int64[2] {-1, 3}> () a = Reshape (x, t) },
                else_branch = no () => (b) { b = Identity (x) }
            >
        }"""
    )
    # Batch 2: [2, 6] in rows of 3; batch 3: as it is.
    assert info.sizes("y", 0) == (4, 3) and info.sizes("y", 1) == (3, 6)


def loop(rounds: str, body: str, start: str = "x") -> ShapeInfo:
    return told(
        HEAD
        + f""" agraph (float[batch, 2] x, int64 n) => (last, rows) {{
            limit = Constant <value = int64 {{5}}> ()
            go = Constant <value = bool {{1}}> ()
            last, rows = Loop ({rounds}, go, {start}) <
                body = round (int64 i, bool c, s) => (c2, s2, row) {{ {body} }}
            >
        }}"""
    )


def test_a_short_loop_is_followed_round_by_round() -> None:
    info = loop(
        "limit", "c2 = Identity (c)  s2 = Concat <axis = 1> (s, x)  row = ReduceSum <keepdims = 0> (s)"
    )
    # Five rounds add two columns each to the two there are.
    assert [str(dim) for dim in info.shape("last") or ()] == ["batch", "12"]
    assert info.shape("rows") == (5,)


def test_a_loop_of_unknown_length_keeps_what_does_not_change() -> None:
    info = loop("n", "c2 = Identity (c)  s2 = Concat <axis = 1> (s, x)  row = ReduceSum <keepdims = 0> (x)")
    batch, width = info.shape("last") or (None, None)
    assert str(batch) == "batch" and isinstance(width, Sym) and width.sample == (None, None)
    rounds = (info.shape("rows") or (None,))[0]
    assert isinstance(rounds, Sym) and rounds is not width


def test_a_size_unknown_before_the_loop_is_not_the_size_after_it() -> None:
    info = told(
        HEAD
        + """ agraph (float[4] x, int64 n) => (last) {
            go = Constant <value = bool {1}> ()
            found = NonZero (x)
            last = Loop (n, go, found) <
                body = round (int64 i, bool c, s) => (c2, s2) { c2 = Identity (c)  s2 = Concat <axis = 1> (s, s) }
            >
        }"""
    )
    before, after = info.shape("found"), info.shape("last")
    assert before is not None and after is not None and before[0] == after[0] == 1
    assert before[1] is not after[1]


def test_a_loop_that_fills_a_sequence() -> None:
    info = told(
        HEAD
        + """ agraph (float[batch, 6] x) => (part) {
            limit = Constant <value = int64 {2}> ()
            go = Constant <value = bool {1}> ()
            bounds = Constant <value = int64[3] {0, 2, 6}> ()
            axes = Constant <value = int64[1] {1}> ()
            one = Constant <value = int64[1] {1}> ()
            none = SequenceEmpty ()
            parts = Loop (limit, go, none) <
                body = round (int64[1] i, bool c, s) => (c2, s2) {
                    c2 = Identity (go)
                    next = Add (i, one)
                    low = Gather (bounds, i)
                    high = Gather (bounds, next)
                    cut = Slice (x, low, high, axes)
                    s2 = SequenceInsert (s, cut)
                }
            >
            place = Constant <value = int64 {1}> ()
            part = SequenceAt (parts, place)
        }"""
    )
    assert [str(dim) for dim in info.shape("part") or ()] == ["batch", "4"]


def test_a_scan_moves_its_axis() -> None:
    info = told(
        HEAD
        + """ agraph (float[time, batch, 3] x, float[batch, 3] start) => (last, steps) {
            last, steps = Scan (start, x) <
                num_scan_inputs = 1, scan_output_axes = [1],
                body = step (float[b, 3] s, float[b, 3] e) => (s2, out) { s2 = Add (s, e)  out = Relu (s2) }
            >
        }"""
    )
    assert [str(dim) for dim in info.shape("last") or ()] == ["batch", "3"]
    assert [str(dim) for dim in info.shape("steps") or ()] == ["batch", "time", "3"]


FUNCTIONS = """<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
    agraph (float[batch, 4, 6] x) => (y, z) {
        y = own.halves <axis = 2> (x)
        z = own.halves <axis = 1> (y)
    }
    <domain: "own", opset_import: ["" : 18, "own" : 1]>
    halves <axis> (a) => (b) { b, c = own.cut <where : int = @axis> (a) }
    <domain: "own", opset_import: ["" : 18]>
    cut <where> (a) => (b, c) { b, c = Split <axis : int = @where, num_outputs = 2> (a) }
"""


def test_functions_are_swept_with_the_attributes_of_each_call() -> None:
    info = told(FUNCTIONS)
    assert [str(dim) for dim in info.shape("y") or ()] == ["batch", "4", "3"]
    assert [str(dim) for dim in info.shape("z") or ()] == ["batch", "2", "3"]
    assert info.problems == ()


def test_an_unknown_operator_gets_what_the_file_declares() -> None:
    info = told(
        """<ir_version: 9, opset_import: ["" : 18, "vendor" : 1]>
        agraph (float[batch, 4] x) => (y, w) <float[batch, 7] z> {
            z = vendor.thing (x)
            y = Relu (z)
            w = vendor.thing (y)
        }"""
    )
    assert info.sizes("y", 1) == (3, 7)
    assert info.shape("w") is None and info.problems == ()


@pytest.mark.parametrize(
    "bad", ["Transpose <perm = [0, 5]> (x)", "Concat <axis = 3> (x, x)", "Squeeze (x, x)"]
)
def test_a_wrong_node_is_noted_and_its_output_unknown(bad: str) -> None:
    info = told(HEAD + f" agraph (float[batch, 4] x) => (y) {{ z = {bad}  y = Relu (z) }}")
    assert info.shape("y") is None
    assert len(info.problems) <= 1


def test_long_results_are_not_computed() -> None:
    # Each input is short; 4000 x 4000 sums, or a tensor of 10^15 elements, would take all memory.
    info = told(
        HEAD
        + """ agraph (float[batch] x) => (sums, ones, both) {
            zero = Constant <value = int64 {0}> ()
            step = Constant <value = int64 {1}> ()
            many = Constant <value = int64 {4000}> ()
            row = Range (zero, many, step)
            place = Constant <value = int64[1] {1}> ()
            column = Unsqueeze (row, place)
            sums = Add (row, column)
            huge = Constant <value = int64[3] {100000, 100000, 100000}> ()
            ones = ConstantOfShape (huge)
            both = Gather (column, row)
        }"""
    )
    assert info.shape("sums") == (4000, 4000) and info.value("sums") is None
    assert info.shape("ones") == (100000,) * 3 and info.value("ones") is None
    assert info.value("both") is not None and info.problems == ()
