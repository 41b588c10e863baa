"""RNN, GRU, LSTM: one hidden axis in gates, biases, peepholes, recurrence, states and all that is returned."""

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from graphrewrite.dims import groups, reference, shrink
from graphrewrite.dims.axes import of_rows
from graphrewrite.ir import Model
from tests.engine.dims.bodies import demand, filled
from tests.support.oracles import random_dead, removal, run_all, worlds
from tests.support.tolerances import FLOAT32, UNCHANGED, relative

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
SIDES = {"forward": 1, "reverse": 1, "bidirectional": 2}


def net(
    kind: str,
    direction: str = "forward",
    attributes: str = "",
    extra: str = "",
    before: str = "",
    inputs: str = "",
    weights: str = "",
    results: str = "all",
    after: str = "",
    outputs: str = "float[A, N, 2] y",
) -> Model:
    """Return a layer over [5, N, 4], widened to 5 before: W is `w`, R `r`, B `b`; `flat` holds all its states.

    `after` makes y of the results; without it `flat` [5, N, directions * 6] is read by `last`.
    """
    sides, gates = SIDES[direction], GATES[kind]
    reading = """
        turned = Transpose <perm = [0, 2, 1, 3]> (all)
        joined = Constant <value = int64[3] {0, 0, -1}> ()
        flat = Reshape (turned, joined)
        y = MatMul (flat, last)"""
    last = f", float[{6 * sides}, 2] last" if not after else ""
    return filled(f"""agraph (float[5, N, 4] x{inputs}) => ({outputs})
        <float[4, 5] a, float[{sides}, {6 * gates}, 5] w, float[{sides}, {6 * gates}, 6] r,
         float[{sides}, {12 * gates}] b{last}{weights}> {{
        wide = MatMul (x, a)
        {before}
        {results} = {kind} <hidden_size = 6, direction = "{direction}"{attributes}> (wide, w, r, b{extra})
        {after or reading}
    }}""")


def hidden(kind: str, sides: int = 1, also: str = "") -> str:
    """Return the group of hidden units as text."""
    gates = GATES[kind]
    times = "" if gates == 1 else f"*{gates}"
    members = [f"b[1]*{2 * gates}", f"last[0]{'*2' * (sides == 2)}", f"r[1]{times}", "r[2]", f"w[1]{times}"]
    return "6: " + " ".join(sorted([*members, *also.split()]))


WIDTH = "5: a[1] w[2]"


@pytest.mark.parametrize("direction", SIDES)
@pytest.mark.parametrize("kind", GATES)
def test_hidden_width_and_input_width_of_every_kind_in_every_direction(kind: str, direction: str) -> None:
    demand(net(kind, direction), hidden(kind, SIDES[direction]), WIDTH)


def test_hidden_size_follows_the_cut() -> None:
    found = groups(net("GRU", "bidirectional"))
    dead = found.none_dead()
    dead[next(group for group in found if group.units == 6).unit_ids[[1, 4]]] = True
    cut = shrink(found.analysis, found.dead_labels(dead)).model
    (layer,) = (node for node in cut.graph.nodes if node.op == "GRU")
    assert layer.attrs["hidden_size"] == 4
    assert [list(t.shape) for t in layer.inputs[1:4]] == [[2, 12, 5], [2, 12, 4], [2, 24]]


# ------------------------------------------------------------------------------------------------ what is read

LAST = "joined = Squeeze (end, nought)\n        y = MatMul (joined, last)"
AXIS = "nought = Constant <value = int64[1] {0}> ()"


@pytest.mark.parametrize("results", ["all, end", ", end", ", , end", "all, , end", "all, other, end"])
def test_whichever_results_of_an_lstm_are_read(results: str) -> None:
    names = [name.strip() for name in results.split(",")]
    others = [name for name in names if name and name != "end"]
    sums = "".join(f"\n        {n}_top = ReduceMax <keepdims = 0> ({n})" for n in others)
    declared = "".join(f", float {n}_top" for n in others)
    results = ", ".join(name or '""' for name in names)
    model = net(
        "LSTM", results=results, before=AXIS, weights=", float[6, 2] last", after=LAST + sums,
        outputs="float[N, 2] y" + declared,
    )  # fmt: skip
    demand(model, hidden("LSTM"), WIDTH)


def test_the_last_state_of_each_direction_taken_apart() -> None:
    """Both halves lose the same units, though each could lose its own."""
    take = """
        one = Constant <value = int64 {1}> ()
        none = Constant <value = int64 {0}> ()
        ahead = Gather <axis = 0> (end, none)
        behind = Gather <axis = 0> (end, one)
        p = MatMul (ahead, last)
        q = MatMul (behind, other)
        y = Add (p, q)"""
    model = net("GRU", "bidirectional", results='"", end', after=take, outputs="float[N, 2] y",
                weights=", float[6, 2] last, float[6, 2] other")  # fmt: skip
    demand(model, hidden("GRU", also="other[0]"), WIDTH)


# ------------------------------------------------------------------------------------------------ initial states

SIZES = """shape = Shape (x)
        one = Constant <value = int64[1] {1}> ()
        batch = Gather <axis = 0> (shape, one)
        six = Constant <value = int64[1] {6}> ()
        full = Concat <axis = 0> (one, batch, six)
        """


@pytest.mark.parametrize("kind", GATES)
def test_states_that_start_from_zeros_of_a_computed_shape(kind: str) -> None:
    zeros = SIZES + "h = ConstantOfShape (full)"
    extra = ", , h, h" if kind == "LSTM" else ", , h"
    demand(net(kind, before=zeros, extra=extra), hidden(kind), WIDTH)


def test_states_that_start_from_learned_numbers_spread_over_the_batch() -> None:
    spread = SIZES + "h = Expand (first, full)\n        c = Expand (second, full)"
    weights = ", float[1, 1, 6] first, float[1, 1, 6] second"
    model = net("LSTM", before=spread, extra=", , h, c", weights=weights)
    demand(model, hidden("LSTM", also="first[2] second[2]"), WIDTH)


def test_states_that_start_from_a_weight_for_each_sample() -> None:
    model = filled("""agraph (float[5, 3, 4] x) => (float[5, 2, 3, 2] y)
        <float[2, 24, 4] w, float[2, 24, 6] r, float[2, 3, 6] h, float[2, 3, 6] c, float[6, 2] last> {
        all = LSTM <hidden_size = 6, direction = "bidirectional"> (x, w, r, , , h, c)
        y = MatMul (all, last)
    }""")
    demand(model, "6: c[2] h[2] last[0] r[1]*4 r[2] w[1]*4")


def test_a_state_that_a_layer_computes() -> None:
    """As a decoder starts from what an encoder saw: the layer's columns are the hidden units."""
    start = """mean = ReduceMean <axes = [0], keepdims = 1> (x)
        made = MatMul (mean, start)
        h = Tanh (made)"""
    model = net("GRU", before=start, extra=", , h", weights=", float[4, 6] start")
    demand(model, hidden("GRU", also="start[1]"), WIDTH)


def test_a_state_that_is_a_graph_input_is_a_contract_unless_it_may_change() -> None:
    model = net("LSTM", inputs=", float[1, N, 6] h, float[1, N, 6] c", extra=", , h, c")
    demand(model, WIDTH, pins={"r[2]": "graph input", "last[0]": "graph input"})
    freed = groups(model, may_change=["h", "c"])
    assert sorted(group.units for group in freed) == [5, 6]


# ------------------------------------------------------------------------------------------------ the options

OPTIONS = {
    "peepholes": ("LSTM", "forward", "", ", , , , p"),
    "peepholes of two directions": ("LSTM", "bidirectional", "", ", , , , p"),
    "peepholes and coupled gates": ("LSTM", "reverse", ", input_forget = 1", ", , , , p"),
    "coupled gates": ("LSTM", "forward", ", input_forget = 1", ""),
    "a clip": ("LSTM", "bidirectional", ", clip = 0.4", ""),
    "a clip of a GRU": ("GRU", "forward", ", clip = 0.3", ""),
    "other activations": ("LSTM", "forward", ', activations = ["HardSigmoid", "Relu", "Softsign"]', ""),
    "activations with numbers for each direction": (
        "LSTM", "bidirectional",
        ', activations = ["HardSigmoid", "LeakyRelu", "Tanh", "HardSigmoid", "Elu", "Affine"], '
        "activation_alpha = [0.3, 0.1, 0.25, 0.7, 0.6], activation_beta = [0.4, 0.5, 0.2]", "",
    ),
    "activations of an RNN": (
        "RNN", "bidirectional", ', activations = ["LeakyRelu", "ScaledTanh"], activation_alpha = [0.2, 0.9], '
        "activation_beta = [0.8]", "",
    ),
    "softplus, which is not zero at zero": ("RNN", "forward", ', activations = ["Softplus"]', ""),
    "reset before the product": ("GRU", "bidirectional", ", linear_before_reset = 0", ""),
    "reset after the product": ("GRU", "bidirectional", ", linear_before_reset = 1", ""),
    "activations of a GRU": ("GRU", "reverse", ', activations = ["HardSigmoid", "Relu"], linear_before_reset = 1', ""),
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_options_work_on_each_unit_alone(option: str) -> None:
    kind, direction, attributes, extra = OPTIONS[option]
    sides = SIDES[direction]
    peepholes = f", float[{sides}, 18] p" if extra else ""
    model = net(kind, direction, attributes, extra, weights=peepholes)
    demand(model, hidden(kind, sides, also="p[1]*3" if extra else ""), WIDTH)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", SIDES)
def test_sequences_of_different_lengths(kind: str, direction: str) -> None:
    """The lengths come from the input: 1 to 5 steps."""
    lengths = """step = Constant <value = float[1] {0.0}> ()
        first = ReduceMax <axes = [0, 2], keepdims = 0> (x)
        longer = Greater (first, step)
        some = Cast <to = 6> (longer)
        three = Constant <value = int32[1] {3}> ()
        two = Constant <value = int32[1] {2}> ()
        more = Mul (some, three)
        lengths = Add (more, two)"""
    demand(net(kind, direction, before=lengths, extra=", lengths"), hidden(kind, SIDES[direction]), WIDTH)


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("kind", GATES)
def test_a_unit_whose_weights_are_zero_goes_without_a_trace(kind: str, before: int) -> None:
    """Rows of all gates, recurrent columns and biases zero: from a state of zero it stays zero, reset early or late."""
    model = net(kind, "bidirectional", f", linear_before_reset = {before}" if kind == "GRU" else "")
    gates = GATES[kind]
    for name, blocks in (("w", gates), ("r", gates), ("b", 2 * gates)):
        values = model.weights[name].copy()
        values[:, [6 * block + unit for block in range(blocks) for unit in (0, 3)]] = 0
        if name == "r":
            values[:, :, [0, 3]] = 0
        model.weights[name] = values
    found = groups(model)
    (group,) = (g for g in found if g.units == 6)
    dead = found.none_dead()
    dead[group.unit_ids[[0, 3]]] = True
    cut = shrink(found.analysis, found.dead_labels(dead)).model
    for feeds in worlds(model):
        (got,), (want,) = (list(run_all(each, [feeds])[0].values()) for each in (cut, model))
        assert relative(got, want) <= UNCHANGED


def test_a_batch_of_channels_is_free_and_time_is_not() -> None:
    """Each channel of a map is a sequence of its own: the batch of the recurrence is what a layer before made."""
    model = filled("""agraph (float[5, 4] x) => (float[5, 2] y)
        <float[4, 7] a, float[7, 2] last, float[1, 18, 1] w, float[1, 18, 6] r, float[6, 1] out> {
        wide = MatMul (x, a)
        two = Constant <value = int64[1] {2}> ()
        one = Constant <value = int64[1] {1}> ()
        steps = Unsqueeze (wide, two)
        all = GRU <hidden_size = 6> (steps, w, r)
        states = Squeeze (all, one)
        each = MatMul (states, out)
        flat = Squeeze (each, two)
        y = MatMul (flat, last)
    }""")
    demand(model, "6: out[0] r[1]*3 r[2] w[1]*3", "7: a[1] last[0]")


# ------------------------------------------------------------------------------------------------ stacks and layouts


def test_stacked_layers_with_projections_between() -> None:
    model = filled("""agraph (float[5, N, 4] x) => (float[5, N, 2] y)
        <float[1, 20, 4] w1, float[1, 20, 5] r1, float[5, 3] down, float[2, 18, 3] w2, float[2, 18, 6] r2,
         float[2, 36] b2, float[1, 7, 12] w3, float[1, 7, 7] r3, float[7, 2] last> {
        one = Constant <value = int64[1] {1}> ()
        first = LSTM <hidden_size = 5> (x, w1, r1)
        plain = Squeeze (first, one)
        small = MatMul (plain, down)
        second = GRU <hidden_size = 6, direction = "bidirectional", linear_before_reset = 1> (small, w2, r2, b2)
        turned = Transpose <perm = [0, 2, 1, 3]> (second)
        joined = Constant <value = int64[3] {0, 0, 12}> ()
        wide = Reshape (turned, joined)
        third = RNN <hidden_size = 7> (wide, w3, r3)
        flat = Squeeze (third, one)
        y = MatMul (flat, last)
    }""")
    demand(
        model,
        "3: down[1] w2[2]",
        "5: down[0] r1[1]*4 r1[2] w1[1]*4",
        "6: b2[1]*6 r2[1]*3 r2[2] w2[1]*3 w3[2]*2",
        "7: last[0] r3[1] r3[2] w3[1]",
    )


def test_a_residual_between_two_layers_ties_their_hidden_units() -> None:
    model = filled("""agraph (float[5, N, 4] x) => (float[5, N, 2] y)
        <float[1, 18, 4] w1, float[1, 18, 6] r1, float[1, 18, 6] w2, float[1, 18, 6] r2, float[6, 2] last> {
        one = Constant <value = int64[1] {1}> ()
        first = GRU <hidden_size = 6> (x, w1, r1)
        plain = Squeeze (first, one)
        second = GRU <hidden_size = 6> (plain, w2, r2)
        flat = Squeeze (second, one)
        sum = Add (flat, plain)
        y = MatMul (sum, last)
    }""")
    demand(model, "6: last[0] r1[1]*3 r1[2] r2[1]*3 r2[2] w1[1]*3 w2[1]*3 w2[2]")


@pytest.mark.parametrize("direction", SIDES)
@pytest.mark.parametrize("kind", GATES)
def test_the_layout_with_the_batch_first(kind: str, direction: str) -> None:
    """onnxruntime has no kernel for it, so onnx's own evaluator runs the cut and the reference, at two batch sizes."""
    sides, gates = SIDES[direction], GATES[kind]
    state = ", c" if kind == "LSTM" else ""
    model = filled(f"""agraph (float[N, 5, 4] x) => (float[N, 5, {sides}, 2] y, float[N, {sides}, 2] z)
        <float[4, 5] a, float[{sides}, {6 * gates}, 5] w, float[{sides}, {6 * gates}, 6] r, float[6, 2] last,
         float[{sides}, {12 * gates}] b, float[{sides}, 18] p, float[1, {sides}, 6] start> {{
        wide = MatMul (x, a)
        shape = Shape (x)
        none = Constant <value = int64[1] {{0}}> ()
        batch = Gather <axis = 0> (shape, none)
        rest = Constant <value = int64[2] {{{sides}, 6}}> ()
        full = Concat <axis = 0> (batch, rest)
        h = Expand (start, full)
        c = Tanh (h)
        all, end = {kind} <hidden_size = 6, layout = 1, direction = "{direction}"> (wide, w, r, b, , h{state})
        y = MatMul (all, last)
        z = MatMul (end, last)
    }}""")
    found = groups(model)
    assert sorted(group.units for group in found) == [5, 6]
    for seed in range(3):
        labels = found.dead_labels(random_dead(found, np.random.default_rng(seed), untouched=0))
        cut, slow = shrink(found.analysis, labels).model, reference(found.analysis, labels)[0]
        for batch in (2, 3):
            feeds = {"x": np.random.default_rng(batch).standard_normal((batch, 5, 4)).astype(np.float32)}
            got, want, whole = (
                list(ReferenceEvaluator(m.to_proto()).run(None, feeds)) for m in (cut, slow, model)
            )
            assert max(relative(a, b) for a, b in zip(got, want, strict=True)) < FLOAT32
            assert relative(got[0], whole[0]) > 1e-3


# ------------------------------------------------------------------------------------------------ can the proof fail?


@pytest.mark.parametrize("kind", GATES)
def test_without_its_mask_the_proof_fails(kind: str) -> None:
    model = net(kind, "bidirectional")
    found = groups(model)
    dead = random_dead(found, np.random.default_rng(1), untouched=0)
    assert removal(model, found, dead).error < FLOAT32
    found.analysis.mixes.clear()
    assert removal(model, found, dead).error > 1e-3


def test_a_bias_cut_at_other_units_is_noticed() -> None:
    model = net("LSTM", "bidirectional")
    found = groups(model)
    dead = random_dead(found, np.random.default_rng(1), untouched=0)
    use = next(use for use in found.analysis.weights.values() if use.name == "b")
    use.axes[1] = of_rows(found.analysis.rows(use.axes[1])[::-1].copy())
    assert removal(model, found, dead).error > 1e-3
