"""Heads that lose dims of their own: which products allow it, that cuts are right, and what falls back to a product."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from graphrewrite.dims import Groups, cells, groups, parts, shrink
from graphrewrite.dims.axes import Axis
from graphrewrite.dims.deaths import tables
from graphrewrite.dims.labels import Ints, Labels
from graphrewrite.dims.record import Balance, Mix
from graphrewrite.dims.step import Step
from graphrewrite.errors import ShapeError
from graphrewrite.ir import Model
from tests.engine.dims.cases import described
from tests.support.drawing import Drawing, Drawn, Style
from tests.support.oracles import random_dead, random_deaths
from tests.support.verdict import cut_faults

HEADS, DIM, WIDTH, TIME = 3, 4, 6, 5
Draw = Callable[[Drawing], Drawn]
own: dict[str, Draw] = {}
tied: dict[str, Draw] = {}


def net(table: dict[str, Draw]) -> Callable[[Draw], Draw]:
    def file(draw: Draw) -> Draw:
        table[draw.__name__.replace("_", "-")] = draw
        return draw

    return file


def model_of(draw: Draw, opset: int = 17, symbolic: bool = True) -> Model:
    d = Drawing(Style(opset, symbolic, constant_nodes=0.0, computed_shapes=0.0, seed=5))
    return d.model(draw(d))


def embedded(d: Drawing, name: str = "embed") -> Drawn:
    return d.matmul(d.input(2, TIME, 4), d.floats(4, WIDTH, name=name))


def parted(d: Drawing, x: Drawn, name: str, *perm: int, dim: int = DIM, heads: int = HEADS) -> Drawn:
    y = d.add(d.matmul(x, d.floats(WIDTH, heads * dim, name=name)), d.floats(heads * dim))
    return d.transpose(d.reshape(y, 0, TIME, heads, dim), *perm)


def joined(d: Drawing, mixed: Drawn, dim: int = DIM) -> Drawn:
    """Put heads side by side, project them, and read everything."""
    y = d.reshape(d.transpose(mixed, 0, 2, 1, 3), 0, TIME, HEADS * dim)
    return d.matmul(d.matmul(y, d.floats(HEADS * dim, WIDTH, name="out")), d.floats(WIDTH, 3, name="head"))


def scored(d: Drawing, q: Drawn, k: Drawn) -> Drawn:
    return d.mul(d.matmul(q, k), d.scalar(0.5))


def softmax(d: Drawing, x: Drawn) -> Drawn:
    return d.op("Softmax", x, shape=x.shape, axis=-1)


# ------------------------------------------------------------------------------------------------ own dims


@net(own)
def plain(d: Drawing) -> Drawn:
    x = embedded(d)
    q, k, v = parted(d, x, "q", 0, 2, 1, 3), parted(d, x, "k", 0, 2, 3, 1), parted(d, x, "v", 0, 2, 1, 3)
    return joined(d, d.matmul(softmax(d, scored(d, q, k)), v))


@net(own)
def values_of_another_size(d: Drawing) -> Drawn:
    x = embedded(d)
    q, k = parted(d, x, "q", 0, 2, 1, 3), parted(d, x, "k", 0, 2, 3, 1)
    v = parted(d, x, "v", 0, 2, 1, 3, dim=6)
    return joined(d, d.matmul(softmax(d, scored(d, q, k)), v), dim=6)


@net(own)
def across(d: Drawing) -> Drawn:
    """Queries from one stream, keys and values from another; the products are scaled on the way."""
    x, y = embedded(d), embedded(d, "other")
    q = d.mul(parted(d, x, "q", 0, 2, 1, 3), d.scalar(0.7))
    k = d.unary("Neg", parted(d, y, "k", 0, 2, 3, 1))
    return joined(d, d.matmul(softmax(d, scored(d, q, k)), parted(d, y, "v", 0, 2, 1, 3)))


@net(own)
def with_a_bias_for_each_head(d: Drawing) -> Drawn:
    x = embedded(d)
    q, k, v = parted(d, x, "q", 0, 2, 1, 3), parted(d, x, "k", 0, 2, 3, 1), parted(d, x, "v", 0, 2, 1, 3)
    scores = d.add(scored(d, q, k), d.floats(1, HEADS, TIME, TIME, name="bias"))
    return joined(d, d.matmul(softmax(d, scores), v))


@net(own)
def with_scores_of_two_kinds(d: Drawing) -> Drawn:
    x = embedded(d)
    one = scored(d, parted(d, x, "q", 0, 2, 1, 3), parted(d, x, "k", 0, 2, 3, 1))
    two = scored(d, parted(d, x, "q2", 0, 2, 1, 3, dim=5), parted(d, x, "k2", 0, 2, 3, 1, dim=5))
    return joined(d, d.matmul(softmax(d, d.add(one, two)), parted(d, x, "v", 0, 2, 1, 3)))


@net(own)
def with_keys_turned_while_batch_and_heads_are_one(d: Drawing) -> Drawn:
    x = embedded(d)
    q, k, v = (parted(d, x, name, 0, 2, 1, 3) for name in "qkv")
    many = f"{HEADS}N" if d.style.symbolic else 2 * HEADS
    k = d.regroup(k, (-1, TIME, DIM), (many, TIME, DIM))
    k = d.regroup(d.transpose(k, 0, 2, 1), (-1, HEADS, DIM, TIME), (x.shape[0], HEADS, DIM, TIME))
    return joined(d, d.matmul(softmax(d, scored(d, q, k)), v))


def packed(d: Drawing) -> Drawn:
    """Queries, keys and values of one layer, as [parts, batch, heads, time, dims]."""
    y = d.add(d.matmul(embedded(d), d.floats(WIDTH, 3 * HEADS * DIM, name="qkv")), d.floats(3 * HEADS * DIM))
    return d.transpose(d.reshape(y, 0, TIME, 3, HEADS, DIM), 2, 0, 3, 1, 4)


def attended(d: Drawing, q: Drawn, k: Drawn, v: Drawn) -> Drawn:
    return joined(d, d.matmul(softmax(d, scored(d, q, d.transpose(k, 0, 1, 3, 2))), v))


@net(own)
def packed_and_picked(d: Drawing) -> Drawn:
    y = packed(d)
    parts = (
        d.op("Gather", y, d.const(np.int64(i - 3 * (i > 1))), shape=y.shape[1:], axis=0) for i in range(3)
    )
    return attended(d, *parts)


@net(own)
def packed_and_sliced(d: Drawing) -> Drawn:
    y = packed(d)
    return attended(d, *(d.squeeze(d.slice(y, 0, i, i + 1), 0) for i in range(3)))


@net(own)
def packed_and_split(d: Drawing) -> Drawn:
    y = packed(d)
    sizes = (None if d.opset < 13 else d.ints(1, 1, 1),)
    attrs = {"split": [1, 1, 1]} if d.opset < 13 else {}
    parts = d.ops("Split", y, *sizes, shapes=3 * [(1, *y.shape[1:])], axis=0, **attrs)
    return attended(d, *(d.squeeze(part, 0) for part in parts))


EXPECTED = {
    **dict.fromkeys(
        ["packed-and-picked", "packed-and-sliced", "packed-and-split"], ["12: out[0] qkv[1]", "12: qkv[1]"]
    ),
    "plain": ["12: k[1] q[1]", "12: out[0] v[1]"],
    "values-of-another-size": ["12: k[1] q[1]", "18: out[0] v[1]"],
    "across": ["12: k[1] q[1]", "12: out[0] v[1]"],
    "with-a-bias-for-each-head": ["12: k[1] q[1]", "12: out[0] v[1]", "3: bias[1]"],
    "with-scores-of-two-kinds": ["12: k[1] q[1]", "12: out[0] v[1]", "15: k2[1] q2[1]"],
    "with-keys-turned-while-batch-and-heads-are-one": ["12: k[1] q[1]", "12: out[0] v[1]"],
}


def found_in(model: Model) -> Groups:
    return groups(model, own_dims=True)


@pytest.mark.parametrize("name", own)
def test_cells_of_queries_and_keys_are_units_and_so_are_those_of_values(name: str) -> None:
    found = found_in(model_of(own[name]))

    lines = [
        line
        for group, line in zip(found, _lines(found), strict=True)
        if group.kind in ("own_head_dim", "heads")
    ]
    assert sorted(lines) == EXPECTED[name]
    assert not {group.kind for group in found} & {"head_dim"}


def _lines(found: Groups) -> list[str]:
    """Return each group as text, biases of layers left out, in the order of the groups."""
    lines = []
    for group in found:
        places = sorted({f"{m.tensor}[{m.axis}]" for m in group.members if not m.tensor.startswith("c_")})
        lines.append(f"{group.units}: {' '.join(places)}")
    return lines


def chosen(found: Groups, rng: np.random.Generator, deaths: bool) -> np.ndarray:
    dead = random_dead(found, rng, untouched=0.2)
    return found.balanced(dead | random_deaths(found, rng)) if deaths else dead


def faults_of(model: Model, seeds: Sequence[int]) -> list[str]:
    found = found_in(model)
    faults, died = [], 0
    for seed in seeds:
        dead = chosen(found, np.random.default_rng(seed), seed % 2 == 0)
        seen = np.append(dead, False)
        died += any(seen[table.units].all(axis=1).any() for table in tables(found.structure))
        try:
            faults += [str(fault) for fault in cut_faults(model, found, dead)]
        except Exception as error:  # a model that does not even run is a fault too
            faults.append(str(error))
    assert died or faults, "no head ever died"
    return faults


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("symbolic", [True, False])
@pytest.mark.parametrize("name", own)
def test_cuts_are_right_and_foretold(name: str, symbolic: bool, opset: int) -> None:
    assert not faults_of(model_of(own[name], opset, symbolic), range(8))


def test_heads_keep_dims_of_their_own() -> None:
    model = model_of(plain)
    found = found_in(model)
    units = next(group for group in found if group.kind == "own_head_dim")
    dead = found.none_dead()
    dead[units.unit_ids[[0, 6, 11]]] = True  # dim 0 of head 0, 2 of 1, 3 of 2

    assert (found.balanced(dead) == dead).all()
    cut = shrink(found.analysis, found.dead_labels(dead))

    np.testing.assert_array_equal(cut.kept["q"][1], [1, 2, 3, 4, 5, 7, 8, 9, 10])
    np.testing.assert_array_equal(cut.kept["k"][1], cut.kept["q"][1])


def test_without_being_asked_all_heads_lose_the_same_dims() -> None:
    found = groups(model_of(plain))

    assert sorted(group.kind for group in found) == ["head_dim", "head_dim", "heads", "mlp", "mlp"]
    assert not found.analysis.balances


def test_a_head_that_dies_in_queries_and_not_in_values_is_refused() -> None:
    found = found_in(model_of(plain))
    dead = found.none_dead()
    units = next(group for group in found if group.kind == "own_head_dim")
    dead[units.unit_ids[:DIM]] = True

    with pytest.raises(ShapeError, match="on one side only"):
        shrink(found.analysis, found.dead_labels(dead))


# ------------------------------------------------------------------------------------------------ what ties heads


@net(tied)
def rotary(d: Drawing) -> Drawn:
    x, table = embedded(d), d.floats(TIME, DIM, name="table")
    q, k, v = (parted(d, x, name, 0, 2, 1, 3) for name in "qkv")
    q, k = d.mul(q, table), d.mul(k, table)
    return joined(d, d.matmul(softmax(d, scored(d, q, d.transpose(k, 0, 1, 3, 2))), v))


@net(tied)
def normed_dims(d: Drawing) -> Drawn:
    x = embedded(d)
    q, k, v = (parted(d, x, name, 0, 2, 1, 3) for name in "qkv")
    q = d.mul(d.standardise(q, 3), d.floats(DIM, name="gain", offset=1.0))
    return joined(d, d.matmul(softmax(d, scored(d, q, d.transpose(k, 0, 1, 3, 2))), v))


@net(tied)
def packed_with_rotary_tables(d: Drawing) -> Drawn:
    y, table = packed(d), d.floats(TIME, DIM, name="table")
    q, k, v = (d.squeeze(d.slice(y, 0, i, i + 1), 0) for i in range(3))
    return attended(d, d.mul(q, table), d.mul(k, table), v)


@net(tied)
def packed_and_picked_inside(d: Drawing) -> Drawn:
    """Each head has its queries, keys and values side by side."""
    y = d.matmul(embedded(d), d.floats(WIDTH, HEADS * 3 * DIM, name="qkv"))
    y = d.transpose(d.reshape(y, 0, TIME, HEADS, 3, DIM), 3, 0, 2, 1, 4)
    return attended(d, *(d.squeeze(d.slice(y, 0, i, i + 1), 0) for i in range(3)))


@net(tied)
def batch_and_heads_are_one(d: Drawing) -> Drawn:
    x = embedded(d)
    many = f"{HEADS}N" if d.style.symbolic else 2 * HEADS
    q, k, v = (
        d.regroup(parted(d, x, name, 0, 2, 1, 3), (-1, TIME, DIM), (many, TIME, DIM)) for name in "qkv"
    )
    mixed = d.matmul(softmax(d, scored(d, q, d.transpose(k, 0, 2, 1))), v)
    return joined(d, d.regroup(mixed, (-1, HEADS, TIME, DIM), (x.shape[0], HEADS, TIME, DIM)))


@net(tied)
def talking_heads(d: Drawing) -> Drawn:
    """Scores of all heads are mixed."""
    x = embedded(d)
    q, k, v = parted(d, x, "q", 0, 2, 1, 3), parted(d, x, "k", 0, 2, 3, 1), parted(d, x, "v", 0, 2, 1, 3)
    scores = d.transpose(
        d.matmul(d.transpose(scored(d, q, k), 0, 2, 3, 1), d.floats(HEADS, HEADS, name="talk")), 0, 3, 1, 2
    )
    return joined(d, d.matmul(softmax(d, scores), v))


@net(tied)
def products_of_keys_and_values(d: Drawing) -> Drawn:
    """Linear attention: what keys and values make has dims of both."""
    x = embedded(d)
    q, k, v = parted(d, x, "q", 0, 2, 1, 3), parted(d, x, "k", 0, 2, 3, 1), parted(d, x, "v", 0, 2, 1, 3)
    return joined(d, d.matmul(q, d.matmul(k, v)))


@net(tied)
def scores_beside_their_mean(d: Drawing) -> Drawn:
    """A statistic runs across heads."""
    x = embedded(d)
    q, k, v = parted(d, x, "q", 0, 2, 1, 3), parted(d, x, "k", 0, 2, 3, 1), parted(d, x, "v", 0, 2, 1, 3)
    scores = scored(d, q, k)
    return joined(d, d.matmul(softmax(d, d.add(scores, d.reduce("ReduceMean", scores, 1))), v))


@pytest.mark.parametrize("name", tied)
def test_where_something_ties_heads_the_groups_are_those_of_a_product(name: str) -> None:
    model = model_of(tied[name])
    found = found_in(model)

    assert described(found) == described(groups(model))
    assert not found.analysis.cells and not found.analysis.balances
    for seed in range(4):
        dead = random_dead(found, np.random.default_rng(seed))
        assert not list(cut_faults(model, found, dead))


# ------------------------------------------------------------------------------------------------ mutations


def forget_that_cells_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let queries and keys keep different dims."""
    original = Labels.unify

    def unify(self: Labels, x: Ints, y: Ints, why: str) -> None:
        if len(x) != HEADS * DIM or not why.startswith("MatMul"):
            original(self, x, y, why)

    monkeypatch.setattr(Labels, "unify", unify)


def forget_the_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reference sum over dims that are gone."""
    monkeypatch.setattr(cells, "Mix", lambda kind, node, slot, axes, members: Mix(kind, node, slot, axes))


def forget_who_dies_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each block choose its own heads, and nobody look."""
    monkeypatch.setattr(
        cells, "Balance", lambda axis, count, node: Balance(axis, count, hash(id(axis)) % 10**9)
    )
    monkeypatch.setattr(cells, "_check", lambda cut, node, balances: None)


def count_heads_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the work of a product count all heads beside their dims."""
    original = Step.macs

    def macs(self: Step, coefficient: float, axes: list[Axis], shared: Balance | None = None) -> None:
        original(self, coefficient * (1 + (len(axes) == 4)), axes, shared)

    monkeypatch.setattr(Step, "macs", macs)


def forget_that_parts_are_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let queries and values keep different numbers of dims."""
    monkeypatch.setattr(
        parts, "Balance", lambda axis, count, node: Balance(axis, 1 if count > HEADS else count, node)
    )


def test_parts_of_different_sizes_show(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not faults_of(model_of(packed_and_sliced), range(8))
    forget_that_parts_are_a_box(monkeypatch)
    assert faults_of(model_of(packed_and_sliced), range(8))


FAULTS = [forget_that_cells_meet, forget_the_mix, forget_who_dies_together, count_heads_twice]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_shows(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)

    assert faults_of(model_of(plain), range(8))
