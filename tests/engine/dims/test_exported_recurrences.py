"""Recurrent nets as converters write them where they use no recurrent operator: loops over lists, cells in a row."""

import pytest

from graphrewrite.dims import groups, shrink
from graphrewrite.ir import Model
from tests.engine.dims.bodies import demand, filled
from tests.engine.dims.cases import described

# A step is looked up in a list by the counter, states go round with a counter of their own, what is read later is
# collected; numbers that a body could hold itself are captured.
TENSOR_LIST = """agraph (float[N, T, 4] x) => (float[N, T, 3] y, float[N, 3] z)
    <float[4, 5] first, float[11, 24] kernel, float[24] bias, float[6, 3] dense, float[6, 3] other> {
    wide = MatMul (x, first)
    steps = Transpose <perm = [1, 0, 2]> (wide)
    sizes = Shape (steps)
    zero = Constant <value = int64 {0}> ()
    one = Constant <value = int64 {1}> ()
    time = Gather <axis = 0> (sizes, zero)
    batch = Gather <axis = 0> (sizes, one)
    front = Constant <value = int64[1] {0}> ()
    rows = Unsqueeze (batch, front)
    units = Constant <value = int64[1] {6}> ()
    full = Concat <axis = 0> (rows, units)
    start = ConstantOfShape (full)
    going = Less (zero, time)
    limit = Constant <value = int64 {9223372036854775807}> ()
    end_i, end_t, end_c, end_h, states = Loop (limit, going, zero, zero, start, start) <
        body = while_body (int64 round, bool on, int64 i, int64 t, float[N, 6] c, float[N, 6] h)
            => (bool on_out, int64 i_next, int64 t_next, float[N, 6] c_next, float[N, 6] h_next, float[N, 6] seen) {
            step = Gather <axis = 0> (steps, t)
            joined = Concat <axis = 1> (step, h)
            product = MatMul (joined, kernel)
            gates = Add (product, bias)
            gi, gj, gf, go = Split <axis = 1> (gates)
            unit = Constant <value = float {1.0}> ()
            forget = Add (gf, unit)
            fs = Sigmoid (forget)
            kept = Mul (fs, c)
            is = Sigmoid (gi)
            jt = Tanh (gj)
            new = Mul (is, jt)
            c_next = Add (kept, new)
            ct = Tanh (c_next)
            os = Sigmoid (go)
            h_next = Mul (os, ct)
            seen = Identity (h_next)
            i_next = Add (i, one)
            t_next = Add (t, one)
            on_out = Less (t_next, time)
        }
    >
    ordered = Transpose <perm = [1, 0, 2]> (states)
    y = MatMul (ordered, dense)
    z = MatMul (end_c, other)
}"""


@pytest.mark.parametrize("time", ["T", "5"])
def test_a_while_loop_that_reads_and_writes_tensor_lists(time: str) -> None:
    demand(
        filled(TENSOR_LIST.replace("T,", f"{time},")),
        "5: first[1] kernel[0]",
        "6: bias[0]*4 dense[0] kernel[0] kernel[1]*4 other[0]",
    )


GRU_LOOP = """agraph (float[N, 5, 4] x) => (float[N, 3] y)
    <float[4, 18] kernel, float[6, 18] recurrent, float[18] into, float[18] back, float[6, 3] dense, float[1, 6] nought,
     int64 rounds = {5}> {
    steps = Transpose <perm = [1, 0, 2]> (x)
    row = Constant <value = int64[2] {-1, 1}> ()
    top = ReduceMin <axes = [1, 2], keepdims = 0> (x)
    column = Reshape (top, row)
    start = MatMul (column, nought)
    going = Constant <value = bool {1}> ()
    end = Loop (rounds, going, start) <
        body = while_body (int64 i, bool on, float[N, 6] h) => (bool on_out, float[N, 6] h_next) {
            on_out = Identity (on)
            step = Gather <axis = 0> (steps, i)
            xk = MatMul (step, kernel)
            a = Add (xk, into)
            hk = MatMul (h, recurrent)
            b = Add (hk, back)
            xz, xr, xh = Split <axis = -1> (a)
            hz, hr, hh = Split <axis = -1> (b)
            sz = Add (xz, hz)
            z = Sigmoid (sz)
            sr = Add (xr, hr)
            r = Sigmoid (sr)
            reset = Mul (r, hh)
            sh = Add (xh, reset)
            new = Tanh (sh)
            kept = Mul (z, h)
            unit = Constant <value = float {1.0}> ()
            rest = Sub (unit, z)
            taken = Mul (rest, new)
            h_next = Add (kept, taken)
        }
    >
    y = MatMul (end, dense)
}"""


def test_a_gated_cell_in_a_loop_with_its_reset_after_the_product() -> None:
    demand(
        filled(GRU_LOOP), "6: back[0]*3 dense[0] into[0]*3 kernel[1]*3 nought[1] recurrent[0] recurrent[1]*3"
    )


def cells(opset: int) -> Model:
    """Return two layers of cells, three steps written one after the other, both starting from one tensor of zeros."""
    lines, h, g = [], "zeros", "zeros"
    for t in range(3):
        lines += [
            f"at{t} = Constant <value = int64 {{{t}}}> ()",
            f"x{t} = Gather <axis = 1> (x, at{t})",
            f"p{t} = Gemm <transB = 1> ({h}, r, b)",
            f"q{t} = Gemm <transB = 1> (x{t}, w, c)",
            f"s{t} = Add (p{t}, q{t})",
            f"h{t} = Tanh (s{t})",
            f"u{t} = Gemm <transB = 1> ({g}, rr, bb)",
            f"v{t} = Gemm <transB = 1> (h{t}, ww, cc)",
            f"a{t} = Add (u{t}, v{t})",
            f"g{t} = Tanh (a{t})",
        ]
        h, g = f"h{t}", f"g{t}"
    body = "\n".join(lines)
    return filled(f"""agraph (float[N, 3, 4] x) => (float[N, 2] y)
        <float[6, 6] r, float[6] b, float[6, 4] w, float[6] c, float[6, 6] rr, float[6] bb, float[6, 6] ww, float[6] cc,
         float[6, 2] last> {{
        shape = Shape (x)
        front = Constant <value = int64[1] {{0}}> ()
        rows = Gather <axis = 0> (shape, front)
        six = Constant <value = int64[1] {{6}}> ()
        full = Concat <axis = 0> (rows, six)
        nought = Constant <value = float[1] {{0.0}}> ()
        zeros = Expand (nought, full)
        {body}
        y = MatMul (g2, last)
    }}""", opset)  # fmt: skip


@pytest.mark.parametrize("opset", [13, 18])
def test_layers_of_cells_that_begin_with_one_tensor_of_zeros_lose_their_own_units(opset: int) -> None:
    """Exporters make the zeros once for all layers that begin with them; that ties nothing."""
    demand(
        cells(opset),
        "6: b[0]*3 c[0]*3 r[0] r[1] w[0] ww[1]",
        "6: bb[0]*3 cc[0]*3 last[0] rr[0] rr[1] ww[0]",
    )


LAYERS = """agraph (float[N, 5, 4] x) => (float[N, 2] y)
    <float[4, 6] w, float[6, 6] r, float[6, 6] ww, float[6, 6] rr, float[6, 2] last> {
    steps = Transpose <perm = [1, 0, 2]> (x)
    shape = Shape (x)
    front = Constant <value = int64[1] {0}> ()
    rows = Gather <axis = 0> (shape, front)
    six = Constant <value = int64[1] {6}> ()
    full = Concat <axis = 0> (rows, six)
    zeros = ConstantOfShape (full)
    h, g = Scan <num_scan_inputs = 1, body = both (float[N, 6] s, float[N, 6] t, float[N, 4] e)
        => (float[N, 6] s2, float[N, 6] t2) {
            a = MatMul (e, w)
            b = MatMul (s, r)
            c = Add (a, b)
            s2 = Tanh (c)
            d = MatMul (s2, ww)
            f = MatMul (t, rr)
            k = Add (d, f)
            t2 = Tanh (k)
        }
    > (zeros, zeros, steps)
    y = MatMul (g, last)
}"""


def test_two_states_of_a_scan_that_begin_with_one_tensor_of_zeros() -> None:
    demand(filled(LAYERS), "6: last[0] rr[0] rr[1] ww[1]", "6: r[0] r[1] w[1] ww[0]")


SLICED = """agraph (float[N, 5, 4] x) => (float[N, 5, 2] y)
    <float[1, 12, 4] w, float[1, 12, 4] r, float[24] both, float[4, 2] last> {
    steps = Transpose <perm = [1, 0, 2]> (x)
    zero = Constant <value = int64[1] {0}> ()
    half = Constant <value = int64[1] {12}> ()
    end = Constant <value = int64[1] {ENDS}> ()
    start = Constant <value = int64[1] {STARTS}> ()
    into = Slice (both, zero, half)
    back = Slice (both, start, end, zero)
    joined = Concat <axis = 0> (into, back)
    biases = Unsqueeze (joined, zero)
    states = GRU <hidden_size = 4> (steps, w, r, biases)
    one = Constant <value = int64[1] {1}> ()
    flat = Squeeze (states, one)
    turned = Transpose <perm = [1, 0, 2]> (flat)
    y = MatMul (turned, last)
}"""


def test_a_vector_sliced_into_biases_is_one_weight() -> None:
    text = SLICED.replace("STARTS", "12").replace("ENDS", "9223372036854775807")
    model = filled(text)
    demand(model, "4: both[0]*6 last[0] r[1]*3 r[2] w[1]*3")
    found = groups(model)
    dead = found.none_dead()
    dead[found.groups[0].unit_ids[[0, 3]]] = True
    cut = shrink(found.analysis, found.dead_labels(dead))
    assert cut.kept["both"][0].tolist() == [4 * block + unit for block in range(6) for unit in (1, 2)]
    assert not cut.copied_from


def test_slices_that_overlap_are_readers_of_their_own() -> None:
    """Each has a copy of its own to cut: what a slice does not take is free in its copy."""
    found = groups(filled(SLICED.replace("STARTS", "-13").replace("ENDS", "-1")))
    assert described(found) == [
        "12: both[0]",
        "12: both[0]",
        "4: both[0]*6 last[0] r[1]*3 r[2] w[1]*3",
    ]
