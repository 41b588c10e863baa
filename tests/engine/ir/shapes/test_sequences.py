"""Sequences and optionals: what is known of their elements, counted or not."""

import numpy as np
import pytest

from graphrewrite.ir import Model, infer
from graphrewrite.ir.shapes import ShapeInfo
from tests.engine.dims.bodies import filled


def told(text: str, opset: int = 18) -> ShapeInfo:
    model: Model = filled(text, opset)
    info = infer(model)
    assert not info.problems
    return info


def elements(info: ShapeInfo, name: str) -> tuple[list[list[str]], bool]:
    found = info.elements(name)
    assert found is not None
    shapes, counted = found
    return [[str(dim) for dim in shape or ("?",)] for shape in shapes], counted


LOOP = """agraph (float[N, 4] x, int64 rounds) => (float[M, 4] y, int64 z) {
    going = Constant <value = bool {1}> ()
    none = SequenceEmpty ()
    h = Relu (x)
    end, all = Loop (rounds, going, h, none) <
        body = round (int64 i, bool on, state, list) => (bool on_out, next, longer) {
            on_out = Identity (on)
            next = GROW
            longer = SequenceInsert (list, next)
        }
    >
    y = ConcatFromSequence <axis = 0> (all)
    z = SequenceLength (all)
}"""


def test_a_list_filled_in_a_loop_of_unknown_length_has_one_kind_of_element() -> None:
    info = told(LOOP.replace("GROW", "Tanh (state)"))
    for name in ("all", "list", "longer"):
        assert elements(info, name) == ([["N", "4"]], False)
    float32 = np.dtype(np.float32)
    assert info.item("all") == ((2, 4), float32) and info.item("all", 1) == ((3, 4), float32)
    assert [str(dim) for dim in info.shape("y") or ()][1:] == ["4"]
    assert info.sizes("y") is None
    assert info.shape("z") == () and info.value("z") is None


def test_a_length_that_changes_from_element_to_element_is_unknown() -> None:
    info = told(LOOP.replace("GROW", "Concat <axis = 0> (state, h)"))
    (shape,), counted = info.elements("all") or ([], True)
    assert not counted and shape is not None and len(shape) == 2 and shape[1] == 4
    assert info.item("all") is None


def test_a_short_loop_of_known_length_counts_its_elements() -> None:
    text = LOOP.replace("GROW", "Concat <axis = 1> (state, h)").replace(", int64 rounds", "")
    text = text.replace("    going", "    rounds = Constant <value = int64 {3}> ()\n    going", 1).replace(
        "M, 4", "M, K"
    )
    info = told(text.replace("axis = 0> (all)", "axis = 1> (all)"))
    assert elements(info, "all") == ([["N", "8"], ["N", "12"], ["N", "16"]], True)
    assert [str(dim) for dim in info.shape("y") or ()] == ["N", "36"]
    assert (info.value("z") or 0) == 3
    # Inside, what holds in all rounds: the rank and the batch.
    ((shape,), counted) = info.elements("list") or ([], True)
    assert not counted and shape is not None and str(shape[0]) == "N" and str(shape[1]) not in ("8", "12")


SPLIT = """agraph (float[N, 7, 4] x, int64 place) => (float[A, B, 4] y) {
    WAY
    y = SequenceAt (parts, place)
}"""


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("parts = SplitToSequence <axis = 1> (x)", ([["N", "1", "4"]] * 7, True)),
        ("parts = SplitToSequence <axis = 1, keepdims = 0> (x)", ([["N", "4"]] * 7, True)),
        ("parts = SplitToSequence <axis = 0, keepdims = 0> (x)", ([["7", "4"]], False)),
        (
            "three = Constant <value = int64 {3}> () parts = SplitToSequence <axis = 1> (x, three)",
            ([["N", "3", "4"], ["N", "3", "4"], ["N", "1", "4"]], True),
        ),
        (
            "one = Constant <value = int64 {1}> () parts = SplitToSequence <axis = 0> (x, one)",
            ([["1", "7", "4"]], False),
        ),
    ],
)
def test_a_split_into_a_list(way: str, expected: tuple[list[list[str]], bool]) -> None:
    text = SPLIT.replace("WAY", way)
    if "keepdims = 0" in way:
        text = text.replace("float[A, B, 4] y", "float[A, B] y")
    assert elements(told(text), "parts") == expected


def test_an_optional_is_a_list_of_at_most_one() -> None:
    info = told("""agraph (float[N, 4] x, bool choice) => (float[N, 4] y, bool has) {
        held = If (choice) <
            then_branch = some () => (p) { p = Optional (x) },
            else_branch = other () => (q) { r = Relu (x) q = Optional (r) }
        >
        has = OptionalHasElement (held)
        y = OptionalGetElement (held)
    }""")
    assert elements(info, "held") == ([["N", "4"]], True)
    assert bool(info.value("has")) is True
    assert [str(dim) for dim in info.shape("y") or ()] == ["N", "4"]


def test_a_declared_list_among_the_inputs_is_believed() -> None:
    info = told("""agraph (seq(float[3, K]) parts) => (float[3, M] y) {
        zero = Constant <value = int64 {0}> ()
        y = SequenceAt (parts, zero)
    }""")
    (shape,), counted = info.elements("parts") or ([], True)
    assert not counted and shape is not None and shape[0] == 3
    assert (info.shape("y") or ())[0] == 3


def test_the_first_form_of_scan_has_a_batch_in_front() -> None:
    info = told(
        """agraph (float[N, 5, 4] x, float[N, 6] start) => (float[N, 6] last, float[N, 5, 7] steps) {
        last, steps = Scan <num_scan_inputs = 1, body = cell (s, e) => (s2, out)
            <float[10, 7] w> { s2 = Tanh (s) j = Concat <axis = 0> (s2, e) out = MatMul (j, w) }
        > (, start, x)
    }""",
        opset=8,
    )
    assert [str(dim) for dim in info.shape("last") or ()] == ["N", "6"]
    assert [str(dim) for dim in info.shape("steps") or ()] == ["N", "5", "7"]
    assert [str(dim) for dim in info.shape("e") or ()] == ["4"]
