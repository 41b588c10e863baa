"""Lists of tensors and optionals: items keep their axes while their number is known; who takes any ties them all."""

import pytest

from graphrewrite.dims import groups
from graphrewrite.dims.rules import sequence
from tests.engine.dims.bodies import demand, filled
from tests.support.oracles import removal
from tests.support.tolerances import FLOAT32

# ------------------------------------------------------------------------------------------------ outside of bodies


def test_items_of_a_list_keep_their_own_axes() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 3] y)
        <float[4, 6] a, float[4, 5] b, float[6, 3] p, float[5, 3] q> {
        g = MatMul (x, a)
        h = MatMul (x, b)
        one = Constant <value = int64 {1}> ()
        back = Constant <value = int64 {-2}> ()
        first = SequenceConstruct (g)
        both = SequenceInsert (first, h)
        again = Identity (both)
        t = SequenceAt (again, one)
        u = SequenceAt (again, back)
        v = MatMul (t, q)
        w = MatMul (u, p)
        y = Add (v, w)
    }"""
    demand(filled(text), "5: b[1] q[0]", "6: a[1] p[0]")


def test_an_item_that_is_put_in_front_and_one_that_is_taken_out() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 3] y)
        <float[4, 6] a, float[4, 5] b, float[4, 7] c, float[5, 3] q, float[6, 3] p> {
        f = MatMul (x, c)
        g = MatMul (x, a)
        h = MatMul (x, b)
        none = Constant <value = int64 {0}> ()
        first = SequenceConstruct (f, g)
        three = SequenceInsert (first, h, none)
        one = Constant <value = int64 {1}> ()
        two = SequenceErase (three, one)
        t = SequenceAt (two, none)
        u = SequenceAt (two, one)
        v = MatMul (t, q)
        w = MatMul (u, p)
        y = Add (v, w)
    }"""
    demand(filled(text), "5: b[1] q[0]", "6: a[1] p[0]", "7: c[1]")


def test_a_list_joined_along_channels_holds_windows() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 3] y) <float[4, 6] a, float[4, 5] b, float[11, 3] last> {
        g = MatMul (x, a)
        h = MatMul (x, b)
        parts = SequenceConstruct (g, h)
        wide = ConcatFromSequence <axis = 1> (parts)
        y = MatMul (wide, last)
    }"""
    demand(filled(text), "5: b[1] last[0]", "6: a[1] last[0]")


@pytest.mark.parametrize(("axis", "perm"), [(0, "1, 0, 2"), (1, "0, 1, 2"), (-2, "0, 1, 2"), (2, "0, 2, 1")])
def test_a_list_stacked_along_a_new_axis_shares_its_channels(axis: int, perm: str) -> None:
    text = f"""agraph (float[N, 4] x) => (float[N, 2, 3] y) <float[4, 6] a, float[4, 6] b, float[6, 3] last> {{
        g = MatMul (x, a)
        h = MatMul (x, b)
        parts = SequenceConstruct (g, h)
        both = ConcatFromSequence <axis = {axis}, new_axis = 1> (parts)
        turned = Transpose <perm = [{perm}]> (both)
        y = MatMul (turned, last)
    }}"""
    demand(filled(text), "6: a[1] b[1] last[0]")


@pytest.mark.parametrize(
    ("sizes", "windows"), [("int64[3] {1, 2, 3}", (1, 2, 3)), ("int64 {2}", (2, 2, 2)), ("int64 {4}", (4, 2))]
)
def test_windows_of_channels_in_a_list_keep_one_each(sizes: str, windows: tuple[int, ...]) -> None:
    tops = [f"top{i}" for i in range(len(windows))]
    taken = "".join(
        f"""
        at{i} = Constant <value = int64 {{{i}}}> ()
        part{i} = SequenceAt (parts, at{i})
        {top} = ReduceMax <axes = [1]> (part{i})"""
        for i, top in enumerate(tops)
    )
    text = f"""agraph (float[N, 4] x) => (float[N, {len(tops)}] y) <float[4, 6] a> {{
        h = MatMul (x, a)
        sizes = Constant <value = {sizes}> ()
        parts = SplitToSequence <axis = 1> (h, sizes){taken}
        y = Concat <axis = 1> ({", ".join(tops)})
    }}"""
    # A window of one position stays: it may not become empty.
    demand(filled(text), *(f"{count}: a[1]" for count in windows if count > 1))


@pytest.mark.parametrize("keep", [0, 1])
def test_what_is_taken_apart_one_by_one_keeps_its_other_axes(keep: int) -> None:
    """As the unbind of queries, keys and values is exported."""
    shape = "float[2, N, 3]" if not keep else "float[2, 1, N, 3]"
    text = f"""agraph (float[N, 4] x) => ({shape} y) <float[2, 4, 6] a, float[6, 3] last> {{
        h = MatMul (x, a)
        parts = SplitToSequence <axis = 0, keepdims = {keep}> (h)
        zero = Constant <value = int64 {{0}}> ()
        one = Constant <value = int64 {{1}}> ()
        p = SequenceAt (parts, zero)
        q = SequenceAt (parts, one)
        turned = SequenceConstruct (q, p)
        both = ConcatFromSequence <axis = 0, new_axis = 1> (turned)
        y = MatMul (both, last)
    }}"""
    demand(filled(text), "6: a[2] last[0]", pins={"a[0]": "taken apart"})


def test_a_place_that_hangs_on_the_input_may_be_any() -> None:
    text = """agraph (float[N, 4] x, int64 place) => (float[N, 3] y)
        <float[4, 6] a, float[4, 6] b, float[6, 3] last> {
        g = MatMul (x, a)
        h = MatMul (x, b)
        parts = SequenceConstruct (g, h)
        two = Constant <value = int64 {2}> ()
        at = Mod (place, two)
        t = SequenceAt (parts, at)
        y = MatMul (t, last)
    }"""
    demand(filled(text), "6: a[1] b[1] last[0]")


def test_items_of_other_lengths_at_an_unknown_place_stay_whole() -> None:
    text = """agraph (float[N, 4] x, int64 place) => (float[N, 1] y) <float[4, 6] a, float[4, 5] b> {
        g = MatMul (x, a)
        h = MatMul (x, b)
        parts = SequenceConstruct (g, h)
        two = Constant <value = int64 {2}> ()
        at = Mod (place, two)
        t = SequenceAt (parts, at)
        y = ReduceMax <axes = [1]> (t)
    }"""
    why = "its length differs from item to item"
    demand(filled(text), pins={"a[1]": why, "b[1]": why})


def test_whole_numbers_in_a_list_are_not_forgotten() -> None:
    """A mask spread over the channels is of whole numbers, and yet it has their positions."""
    text = """agraph (float[N, 4] x) => (float[N, 3] y) <float[4, 6] a, float[6, 3] last> {
        g = MatMul (x, a)
        signs = Sign (g)
        whole = Cast <to = 7> (signs)
        parts = SequenceConstruct (whole)
        zero = Constant <value = int64 {0}> ()
        t = SequenceAt (parts, zero)
        back = Cast <to = 1> (t)
        y = MatMul (back, last)
    }"""
    demand(filled(text), "6: a[1] last[0]")


def test_a_list_that_is_returned_is_a_contract() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 3] y, seq(float[N, 6]) parts) <float[4, 6] a, float[6, 3] last> {
        g = MatMul (x, a)
        parts = SequenceConstruct (g)
        y = MatMul (g, last)
    }"""
    found = groups(filled(text))
    assert not list(found)
    assert "graph output parts" in found.pinned["a[1]"]


# ------------------------------------------------------------------------------------------------ optionals


def test_an_optional_holds_the_axes_of_its_tensor() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 3] y) <float[4, 6] a, float[6, 3] last> {
        g = MatMul (x, a)
        held = Optional (g)
        t = OptionalGetElement (held)
        y = MatMul (t, last)
    }"""
    demand(filled(text, opset=18), "6: a[1] last[0]")


def test_a_branch_that_returns_nothing_and_one_that_returns_a_tensor() -> None:
    text = """agraph (float[N, 4] x, bool choice) => (float[N, 3] y)
        <float[4, 6] a, float[4, 6] b, float[6, 3] last> {
        g = MatMul (x, a)
        held = If (choice) <
            then_branch = some () => (optional(float[N, 6]) p) { p = Optional (g) },
            else_branch = other () => (optional(float[N, 6]) q) { h = MatMul (x, b) q = Optional (h) }
        >
        has = OptionalHasElement (held)
        t = OptionalGetElement (held)
        share = Cast <to = 1> (has)
        u = Mul (t, share)
        y = MatMul (u, last)
    }"""
    demand(filled(text, opset=18), "6: a[1] b[1] last[0]")


def test_a_list_that_nobody_follows_is_pinned_with_the_reason() -> None:
    text = """agraph (float[N, 4] x) => (seq(float[N, 6]) z) <float[4, 6] a> {
        g = MatMul (x, a)
        parts = SequenceConstruct (g)
        z = my.Sorted (parts)
    }"""
    found = groups(filled(text))
    assert "no dimension rule for Sorted of domain my" in found.pinned["a[1]"]


def test_without_the_tie_of_the_items_a_cut_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that lets each item of a stack lose its own channels makes a model that does not run or differs."""
    text = """agraph (float[N, 4] x) => (float[N, 2, 3] y) <float[4, 6] a, float[4, 6] b, float[6, 3] last> {
        g = MatMul (x, a)
        h = MatMul (x, b)
        parts = SequenceConstruct (g, h)
        both = ConcatFromSequence <axis = 1, new_axis = 1> (parts)
        y = MatMul (both, last)
    }"""
    model = filled(text)
    monkeypatch.setattr(sequence, "one_of_two", lambda s, first, second: list(first))
    found = groups(model)
    assert sorted(group.units for group in found) == [6, 6]
    (one,) = (group for group in found if any(m.tensor == "b" for m in group.members))
    dead = found.none_dead()
    dead[one.unit_ids[:2]] = True
    with pytest.raises(Exception, match="(?s)Concat|equal|dimension|shape"):
        assert removal(model, found, dead).error < FLOAT32
