"""Scan: states keep their axes, the scanned axis stays whole, whichever it is and whichever way it is read."""

import pytest

from tests.engine.dims.bodies import demand, filled

CELL = """agraph (float[N, 5, 4] x) => (float[N, 5, 2] y) <float[6, 2] last, float[1, 6] zero, float[4, 4] first> {
    turned = MatMul (x, first)
    steps = Transpose <perm = [PERM]> (turned)
    shape = Shape (x)
    nought = Constant <value = int64[1] {0}> ()
    batch = Gather (shape, nought)
    six = Constant <value = int64[1] {6}> ()
    both = Concat <axis = 0> (batch, six)
    h = Expand (zero, both)
    final, states = Scan <num_scan_inputs = 1, ATTRIBUTES,
        body = cell (float[N, 6] state, float[N, 4] step) => (float[N, 6] next, float[N, 6] seen)
            <float[10, 6] gate, float[10, 6] fresh> {
            joined = Concat <axis = 1> (state, step)
            opened = MatMul (joined, gate)
            open = Sigmoid (opened)
            made = MatMul (joined, fresh)
            bent = Tanh (made)
            taken = Mul (open, bent)
            next = Add (taken, state)
            seen = Identity (next)
        }
    > (h, steps)
    rows = Transpose <perm = [BACK]> (states)
    y = MatMul (rows, last)
}"""


@pytest.mark.parametrize(
    ("perm", "back", "attributes"),
    [
        ("1, 0, 2", "1, 0, 2", "scan_input_directions = [0]"),
        ("1, 0, 2", "1, 0, 2", "scan_input_directions = [1], scan_output_directions = [1]"),
        ("0, 1, 2", "0, 1, 2", "scan_input_axes = [1], scan_output_axes = [1]"),
        ("0, 2, 1", "0, 2, 1", "scan_input_axes = [-1], scan_output_axes = [-1]"),
    ],
)
def test_a_cell_scanned_over_time(perm: str, back: str, attributes: str) -> None:
    text = CELL.replace("PERM", perm).replace("BACK", back).replace("ATTRIBUTES", attributes)
    demand(
        filled(text),
        "4: first[1] fresh[0] gate[0]",
        "6: fresh[0] fresh[1] gate[0] gate[1] last[0] zero[1]",
        pins={"first[0]": "graph input x"},
    )


def test_the_scanned_axis_stays_whole() -> None:
    """The rows of a weight are scanned: as many rounds as there are rows."""
    text = """agraph (float[N, 4] x) => (float[5, N, 3] y) <float[5, 4, 6] rows, float[6, 3] last> {
        all = Scan <num_scan_inputs = 1,
            body = round (float[4, 6] row) => (float[N, 6] out) { out = MatMul (x, row) }
        > (rows)
        y = MatMul (all, last)
    }"""
    demand(filled(text), "6: last[0] rows[2]", pins={"rows[0]": "it is scanned", "rows[1]": "graph input x"})


# ------------------------------------------------------------------------------------------------ operator set 8

BATCHED = """agraph (float[N, 5, 4] x) => (float[N, 5, 2] y, float[N, 2] z)
    <float[6, 2] last, float[1, 6] one, float[4, 4] first> {
    turned = MatMul (x, first)
    top = ReduceMax <axes = [1, 2], keepdims = 1> (turned)
    column = Constant <value = int64[2] {-1, 1}> ()
    seen = Reshape (top, column)
    h = MatMul (seen, one)
    COUNTED
    final, states = Scan <num_scan_inputs = 1, directions = [DIRECTION],
        body = cell (float[6] state, float[4] step) => (float[6] next, float[6] out)
            <float[10, 6] gate, float[6] bias> {
            joined = Concat <axis = 0> (state, step)
            opened = MatMul (joined, gate)
            biased = Add (opened, bias)
            next = Tanh (biased)
            out = Identity (next)
        }
    > (LENGTHS, h, turned)
    y = MatMul (states, last)
    z = MatMul (final, last)
}"""
# Three steps or five, as the sample has it.
COUNTED = """line = Constant <value = int64[1] {-1}> ()
    flat = Reshape (top, line)
    none = Constant <value = float[1] {0.0}> ()
    above = Greater (flat, none)
    some = Cast <to = 7> (above)
    three = Constant <value = int64[1] {3}> ()
    two = Constant <value = int64[1] {2}> ()
    more = Mul (some, two)
    lengths = Add (more, three)"""


@pytest.mark.parametrize("direction", ["0", "1"])
@pytest.mark.parametrize(("counted", "lengths"), [("", ""), (COUNTED, "lengths")])
def test_the_first_form_of_scan_whose_body_does_not_see_the_batch(
    counted: str, lengths: str, direction: str
) -> None:
    text = BATCHED.replace("DIRECTION", direction).replace("COUNTED", counted).replace("LENGTHS", lengths)
    demand(
        filled(text, opset=8),
        "4: first[1] gate[0]",
        "6: bias[0] gate[0] gate[1] last[0] one[1]",
        pins={"first[0]": "graph input x"},
    )
