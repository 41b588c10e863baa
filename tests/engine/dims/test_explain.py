"""Ties, savings, obstacles and routes of small nets, worked out by hand."""

import time
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.dims import groups
from graphrewrite.dims.explain import explain
from graphrewrite.dims.explanation import Explained, Explanation
from graphrewrite.errors import UnknownNameError
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.inline import inlined
from tests.engine.dims.bodies import filled
from tests.engine.dims.test_rules_if import BRANCHES
from tests.support.graphs import random_model


class Draw(Builder):
    """A builder whose weights have names: "a" makes a.w and a.b."""

    def layer(
        self, x: gs.Tensor, name: str, out: int, into: int, kernel: int = 1, group: int = 1
    ) -> gs.Variable:
        """A convolution with padding; weight `name`.w [out, into / group, kernel, kernel]."""
        w = self.weight(out, into // group, kernel, kernel, name=f"{name}.w")
        b = self.constant(self._normal((out,)), name=f"{name}.b")
        pad = kernel // 2
        return self.op("Conv", x, w, b, name=name, kernel_shape=[kernel] * 2, pads=[pad] * 4, group=group)

    def product(self, x: gs.Tensor, name: str, out: int, into: int) -> gs.Variable:
        """A matrix product; weight `name`.w [into, out]."""
        return self.op("MatMul", x, self.weight(into, out, name=f"{name}.w"), name=name)


def residual() -> Model:
    """x -> a (8) -> relu -> b (8), added to a's relu; then c (4) is the output."""
    d = Draw()
    a = d.relu(d.layer(d.input([1, 3, 4, 4], name="x"), "a", 8, 3))
    joined = d.op("Add", a, d.layer(a, "b", 8, 8, kernel=3), name="join")
    return d.model(d.layer(joined, "c", 4, 8))


def ties(group: Explained) -> list[tuple[str, str, tuple[tuple[str, ...], ...]]]:
    return [(tie.name, tie.kind, tie.sides) for tie in group.ties]


def the(found: Explanation, name: str) -> Explained:
    (group,) = [group for group in found if group.name == name]
    return group


def test_an_addition_joins_the_layers_on_both_sides() -> None:
    found = explain(residual())
    (group,) = found
    assert (group.name, group.label, group.units, group.floor, group.step) == ("a.w[0]", "a", 8, 1, 1)
    assert ties(group) == [("join", "joins", (("a.w[0]",), ("b.w[0]",)))]
    assert group.ties[0].text == "Add join adds a and b position by position"
    assert [(m.tensor, m.axis) for m in group.of_role("producer")] == [("a.w", 0), ("b.w", 0)]
    assert [(m.tensor, m.axis) for m in group.of_role("consumer")] == [("b.w", 1), ("c.w", 1)]
    assert {m.tensor for m in group.of_role("vector")} == {"a.b", "b.b"}
    # Conv a, its Relu, Conv b and the sum.
    assert [(p.axis, p.positions, p.length) for p in group.activations] == [(1, 1, 8)] * 4


def test_savings_are_those_of_the_layers_that_share_the_unit() -> None:
    found = explain(residual())
    (group,) = found
    # 16 positions: a makes 8*3, b 8*8*9, c 4*8 products each.
    assert found.macs == 16 * (24 + 576 + 32)
    assert group.macs_through == found.macs, "every layer has a side of this group"
    # One unit is in a (3), in b on both sides (72 + 72, to first order), in c (4).
    assert group.macs_per_unit == 16 * (3 + 144 + 4)
    assert group.macs_share == pytest.approx(group.macs_per_unit / found.macs)
    assert group.params_per_unit == 3 + 144 + 4 + 2
    assert found.fixed == 0
    assert found.least == 16 * (3 + 9 + 4)


def test_obstacles_name_what_is_pinned_by_which_end_and_what_it_costs() -> None:
    found = explain(residual())
    rows = {o.reason: ([(p.tensor, p.axis, p.chain) for p in o.pins], o.macs) for o in found.obstacles}
    (entrance,) = [reason for reason in rows if "graph input x" in reason]
    assert rows[entrance] == ([("a.w", 1, ())], 16 * 24)
    (end,) = [reason for reason in rows if reason.startswith("graph output")]
    assert rows[end] == ([("c.w", 0, ()), ("c.b", 0, ())], 16 * 32)
    assert found.pinned["c.w[0]"] == end


def test_a_pin_far_away_comes_with_the_additions_that_carry_it() -> None:
    d = Draw()
    x = d.layer(d.input([1, 3, 4, 4], name="x"), "a", 8, 3)
    for name in ("b", "c"):
        x = d.op("Add", x, d.layer(x, name, 8, 8), name=f"join_{name}")
    found = explain(d.model(x))
    assert not found.groups
    (end,) = [o for o in found.obstacles if o.reason.startswith("graph output")]
    chains = {p.tensor: p.chain for p in end.pins if p.axis == 0 and p.tensor.endswith(".w")}
    assert chains == {
        "a.w": ("Add join_b", "Add join_c"),
        "b.w": ("Add join_b", "Add join_c"),
        "c.w": ("Add join_c",),
    }
    assert found.fixed == found.macs, "all sides of all three layers are pinned"


def test_a_depthwise_convolution_makes_each_channel_from_one() -> None:
    d = Draw()
    x = d.layer(d.input([1, 3, 4, 4], name="x"), "a", 6, 3)
    x = d.layer(x, "deep", 6, 6, kernel=3, group=6)
    (group,) = explain(d.model(d.layer(x, "c", 4, 6)))
    assert ties(group) == [("deep", "joins", (("a.w[0]",), ("deep.w[0]",)))]
    assert group.ties[0].text == "Conv deep makes its channels from the same channels of a"


def test_grouped_convolutions_with_many_slots_go_in_steps() -> None:
    d = Draw()
    x = d.layer(d.input([1, 3, 4, 4], name="x"), "a", 16, 3)
    x = d.layer(x, "g", 32, 16, kernel=3, group=4)
    found = explain(d.model(d.layer(x, "c", 4, 32)))
    made = the(found, "a.w[0]")
    assert (made.units, made.step, made.floor) == (16, 4, 4)
    assert [(t.name, t.kind, t.dims) for t in made.ties] == [("g", "balances", (4,))]
    assert "4 groups" in made.ties[0].text


def test_grouped_convolutions_with_few_slots_are_seen_as_a_product() -> None:
    d = Draw()
    x = d.layer(d.input([1, 3, 4, 4], name="x"), "a", 8, 3)
    x = d.layer(x, "g", 8, 8, kernel=3, group=4)
    found = explain(d.model(d.layer(x, "c", 4, 8)))
    across = next(g for g in found if any(t.kind == "joins" for t in g.ties))
    assert across.units == 4
    (tie,) = [t for t in across.ties if t.kind == "joins"]
    assert (tie.name, tie.sides, tie.dims) == ("g", (("a.w[0]",), ("g.w[0]",)), (4, 2))
    # The slots: two positions inside each group of what a makes, tied to nothing but a's own axis.
    slots = [g for g in found if g is not across]
    assert all(g.units == 2 and all(t.kind == "splits" for t in g.ties) for g in slots)


def attention(heads: int = 2, dim: int = 3, width: int = 5) -> Model:
    d = Draw()
    x = d.input([1, 4, width], name="x")
    split = d.constant(np.array([1, 4, heads, dim]))

    def part(name: str, order: Sequence[int]) -> gs.Variable:
        made = d.op("Reshape", d.product(x, name, heads * dim, width), split)
        return d.op("Transpose", made, perm=list(order))

    q, k, v = part("q", (0, 2, 1, 3)), part("k", (0, 2, 3, 1)), part("v", (0, 2, 1, 3))
    weights = d.op("Softmax", d.op("MatMul", q, k, name="look"), axis=-1)
    mixed = d.op("Transpose", d.op("MatMul", weights, v, name="mix"), perm=[0, 2, 1, 3])
    packed = d.op("Reshape", mixed, d.constant(np.array([1, 4, heads * dim])))
    return d.model(d.product(packed, "o", width, heads * dim))


def test_attention_ties_heads_over_three_layers_and_head_dims_over_two() -> None:
    found = explain(attention())
    heads = next(group for group in found if group.units == 2)
    joins = [tie for tie in heads.ties if tie.kind == "joins"]
    assert [(t.name, t.sides) for t in joins] == [
        ("look", (("q.w[1]",), ("k.w[1]",))),
        ("mix", (("q.w[1]", "k.w[1]"), ("v.w[1]",))),
    ]
    assert joins[0].text == "MatMul look multiplies q and k unit by unit, seen as 2 x 3"
    keys, values = (next(g for g in found if g.units == 3 and g.label == label) for label in ("q", "v"))
    assert ties(keys) == [("look", "joins", (("q.w[1]",), ("k.w[1]",)))]
    assert [(t.name, t.kind) for t in values.ties] == [("mix", "splits")]
    assert {m.tensor: m.positions for m in heads.members} == {"q.w": 3, "k.w": 3, "v.w": 3, "o.w": 3}
    assert {m.tensor: m.positions for m in keys.members} == {"q.w": 2, "k.w": 2}


def test_a_concatenation_joins_nothing_along_its_axis_and_what_adds_to_it_joins_both() -> None:
    d = Draw()
    x = d.input([1, 3, 4, 4], name="x")
    both = d.concat(d.layer(x, "a", 4, 3), d.layer(x, "b", 6, 3))
    plain = explain(d.model(d.layer(both, "c", 2, 10)))
    assert {g.name: ties(g) for g in plain} == {"a.w[0]": [], "b.w[0]": []}

    d = Draw()
    x = d.input([1, 3, 4, 4], name="x")
    both = d.concat(d.layer(x, "a", 4, 3), d.layer(x, "b", 6, 3))
    total = d.op("Add", both, d.layer(x, "wide", 10, 3), name="join")
    found = explain(d.model(d.layer(total, "c", 2, 10)))
    assert {g.units: ties(g) for g in found} == {
        4: [("join", "joins", (("a.w[0]",), ("wide.w[0]",)))],
        6: [("join", "joins", (("b.w[0]",), ("wide.w[0]",)))],
    }


def test_a_concatenation_along_another_axis_joins() -> None:
    d = Draw()
    x = d.input([1, 3, 4, 4], name="x")
    tall = d.op("Concat", d.layer(x, "a", 4, 3), d.layer(x, "b", 4, 3), axis=2, name="stack")
    (group,) = explain(d.model(d.layer(tall, "c", 2, 4)))
    assert ties(group) == [("stack", "joins", (("a.w[0]",), ("b.w[0]",)))]


def test_a_norm_takes_statistics_over_the_width() -> None:
    d = Draw()
    x = d.product(d.input([1, 4, 5], name="x"), "a", 6, 5)
    x = d.op("LayerNormalization", x, d.weight(6, name="n.g"), d.weight(6, name="n.b"), name="norm", axis=-1)
    (group,) = explain(d.model(d.product(x, "c", 2, 6)))
    assert [(t.name, t.kind) for t in group.ties] == [("norm", "statistics")]


def test_the_recurrence_is_one_axis_across_gates() -> None:
    d = Draw()
    x = d.input([4, 1, 3], name="x")
    w, r = d.weight(1, 20, 3, name="l.w"), d.weight(1, 20, 5, name="l.r")
    y = d.op("LSTM", x, w, r, name="l", hidden_size=5)
    flat = d.op("Squeeze", y, d.constant(np.array([1])))
    (group,) = [g for g in explain(d.model(d.product(flat, "c", 2, 5))) if g.units == 5]
    (tie,) = group.ties
    assert (tie.kind, tie.dims) == ("joins", (4, 5))
    assert {name for side in tie.sides for name in side} == {"l.w[1]", "l.r[1]"}
    assert "its own weights" in tie.text


def test_layers_inside_bodies_are_explained_and_drawn() -> None:
    found = explain(filled(BRANCHES))
    made = next(group for group in found if group.units == 6)
    assert {m.tensor for m in made.of_role("producer")} == {"down", "other"}
    (tie,) = [tie for tie in made.ties if tie.kind == "joins"]
    assert tie.op == "If" and {name for side in tie.sides for name in side} == {"down[1]", "other[1]"}
    stations = {station.number for station in found.stations}
    assert {end for flow in found.flows for end in (flow.source, flow.target)} <= stations
    assert [s.label for s in found.stations if s.kind == "output"] == ["y"]
    made_at = {name for station in found.stations for name in station.made}
    assert {group.name for group in found} <= made_at
    assert len(found.obstacles) > 0


def test_routes_lead_from_layer_to_layer_past_what_only_hands_on() -> None:
    found = explain(residual())
    names = {s.number: s.label for s in found.stations}
    kinds = {s.label: s.kind for s in found.stations}
    edges = {(names[f.source], names[f.target], f.group, f.length) for f in found.flows}
    out = next(label for label, kind in kinds.items() if kind == "output")
    assert edges == {
        ("x", "a", "", 0),
        ("a", "b", "a.w[0]", 8),
        ("a", "join", "a.w[0]", 8),
        ("b", "join", "a.w[0]", 8),
        ("join", "c", "a.w[0]", 8),
        ("c", out, "", 4),
    }
    assert (kinds["a"], kinds["join"], kinds["x"]) == ("layer", "join", "input")


def test_a_recorded_sweep_finds_the_same_groups() -> None:
    for model in (residual(), attention()):
        plain, found = groups(model), explain(model)
        assert [(g.name, g.units, g.macs_per_unit) for g in plain] == [
            (g.name, g.units, g.macs_per_unit) for g in found
        ]
        assert {name.split(" ")[0] for name in plain.pinned} <= {name.split(" ")[0] for name in found.pinned}


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_can_be_explained_and_every_member_is_reached(seed: int) -> None:
    model = inlined(random_model(seed).model)
    plain, found = groups(model), explain(model)
    assert [(g.name, g.units) for g in plain] == [(g.name, g.units) for g in found]
    for group in found:
        makers = {f"{m.tensor}[{m.axis}]" for m in group.of_role("producer")}
        joined = {name for tie in group.ties for side in tie.sides for name in side}
        # Two makers can only be in one group when something joins them.
        if len(makers) > 1:
            assert makers <= joined, f"{group.name}: nothing says why {makers - joined} belong"
        assert 1 <= group.floor <= group.units


def test_names_are_found_by_group_by_member_and_by_layer() -> None:
    found = explain(residual())
    assert found.find("a.w[0]") is found.find("b.w") is found.find("c.w[1]") is found.find("a")
    with pytest.raises(UnknownNameError, match=r"no group called 'a\.w\[9\]'.*'a\.w\[0\]'"):
        found.find("a.w[9]")
    with pytest.raises(UnknownNameError, match="belongs to 2 groups"):
        explain(attention()).find("q.w")


def test_long_chains_are_explained_fast() -> None:
    d = Draw()
    x = d.layer(d.input([1, 3, 4, 4], name="x"), "stem", 8, 3)
    for number in range(500):
        inner = d.relu(d.layer(x, f"in{number}", 8, 8))
        x = d.op("Add", x, d.layer(inner, f"out{number}", 8, 8), name=f"join{number}")
    model = d.model(d.layer(x, "head", 4, 8))
    start = time.process_time()
    found = explain(model)
    taken = time.process_time() - start
    assert len(found.groups) == 501
    assert len(max(found, key=lambda g: len(g.ties)).ties) == 500
    assert taken < 4, f"{taken:.1f} s for 1002 layers"
