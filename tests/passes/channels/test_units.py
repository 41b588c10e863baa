"""Kinds of units: groups have the kind a reader of the architecture would give them, and only those asked for go."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from graphrewrite.dims import groups
from graphrewrite.dims.kinds import KINDS
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from tests.passes.channels.nets import NETS, cut, groups_told, recurrent, residual
from tests.passes.channels.transformers import (
    DIM,
    HEADS,
    TRANSFORMERS,
    crossed,
    fused,
    grouped_queries,
    mixer,
    text,
    unprojected,
    vision,
)


def kinds_at(model: Model) -> dict[str, list[str]]:
    """Return "tensor[axis]" -> the kinds of the groups there, sorted."""
    found: dict[str, list[str]] = {}
    for group in groups(model):
        for member in group.members:
            found.setdefault(f"{member.tensor}[{member.axis}]", []).append(group.kind)
    return {place: sorted(kinds) for place, kinds in found.items()}


def both(*kinds: str) -> list[str]:
    return sorted(kinds)


PACKED = ["head_dim", "heads"]


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (
            vision,
            {
                "positions[2]": ["width"],
                "block0.q[0]": ["width"],
                "block0.q[1]": PACKED,
                "block0.k[1]": PACKED,
                "block0.v.bias[0]": PACKED,
                "block0.out[0]": PACKED,
                "block1.out[1]": ["width"],
                "block1.mlp.one[1]": ["mlp"],
                "block1.mlp.two[0]": ["mlp"],
                "head[0]": ["width"],
            },
        ),
        (
            text,
            {
                "words[1]": ["width"],
                "block.q[1]": PACKED,
                "places.one[1]": ["mlp"],  # hidden units of the net that makes the bias
                "places.two[1]": ["heads"],  # scores get a bias: no residual stream
                "mlp.one[1]": ["mlp"],
            },
        ),
        (
            grouped_queries,
            {
                "words[1]": ["width"],
                "q[1]": both("heads", "heads", "head_dim"),  # key heads, query heads of each, dims
                "k[1]": PACKED,
                "v[1]": PACKED,
                "out[0]": both("heads", "heads", "head_dim"),
                "gate[1]": ["mlp"],
                "up[1]": ["mlp"],
            },
        ),
        (
            fused,
            {
                "embed[1]": ["width"],
                "qkv[1]": PACKED,  # one weight, one reshape: all three lose the same
                "before[0]": ["heads"],
                "before[1]": ["heads"],
                "after[0]": ["heads"],
                "after[1]": ["heads"],
                "out[0]": PACKED,
            },
        ),
        (
            crossed,
            {
                "encoder[1]": ["width"],
                "encoder.mlp.one[1]": ["mlp"],
                "embed[1]": ["width"],
                "own.q[1]": PACKED,
                "q[1]": PACKED,  # a sum of two projections, but no skip connection
                "q.places[1]": PACKED,
                "cross.k[0]": ["width"],
                "cross.k[1]": PACKED,
            },
        ),
        (unprojected, {"embed[1]": ["width", "width"], "q[1]": both("head_dim", "width")}),
        (mixer, {"embed[1]": ["width"], "tokens.one[1]": ["mlp"], "channels.one[1]": ["mlp"]}),
    ],
)
def test_each_axis_has_the_kind_its_role_gives_it(
    net: Callable[[], Model], expected: Mapping[str, list[str]]
) -> None:
    found = kinds_at(net())

    assert {place: found.get(place) for place in expected} == expected


def test_the_whole_list_of_a_vision_transformer() -> None:
    found = sorted((group.kind, group.units) for group in groups(vision()))

    assert found == sorted(
        [("width", 12), *2 * [("heads", HEADS), ("head_dim", DIM), ("head_dim", DIM), ("mlp", 20)]]
    )


def test_convolutions_on_and_off_the_residual_stream() -> None:
    assert kinds_at(residual())["w_1[0]"] == ["width"]
    assert sorted(group.kind for group in groups(residual())) == ["channels", "channels", "width"]
    assert {group.kind for group in groups(NETS["tower"]())} == {"channels"}


def test_recurrent_states_are_hidden_also_when_written_out() -> None:
    b = Builder()
    x = b.input(["N", 3, 4], "x")
    w, r = b.weight(4, 6, name="w"), b.weight(6, 6, name="r")
    state = None
    for step in range(3):
        now = b.op("MatMul", b.op("Gather", x, b.constant(np.array(step, np.int64)), axis=1), w)
        state = b.op("Tanh", now if state is None else b.add(now, b.op("MatMul", state, r)))
    assert state is not None
    written_out = b.model(b.op("MatMul", state, b.weight(6, 2)))

    assert kinds_at(written_out)["r[0]"] == ["hidden"]
    assert kinds_at(recurrent())["head[0]"] == ["hidden"]
    assert kinds_at(recurrent())["embed[1]"] == ["mlp"]


def test_a_stack_of_weights_owns_a_matrix_per_expert() -> None:
    b = Builder()
    x = b.input(["N", 4], "x")
    gates = b.op("Softmax", b.op("MatMul", x, b.weight(4, 5, name="router")), axis=-1)
    inner = b.relu(
        b.op(
            "MatMul", b.op("Unsqueeze", x, b.constant(np.array([0], np.int64))), b.weight(5, 4, 7, name="up")
        )
    )
    results = b.op("Transpose", b.op("MatMul", inner, b.weight(5, 7, 3, name="down")), perm=[1, 0, 2])
    weighted = b.op("Mul", results, b.op("Unsqueeze", gates, b.constant(np.array([2], np.int64))))
    model = b.model(b.op("ReduceSum", weighted, b.constant(np.array([1], np.int64)), keepdims=0))

    found = kinds_at(model)

    assert (found["router[1]"], found["up[0]"], found["up[2]"]) == (["experts"], ["experts"], ["mlp"])


@pytest.mark.parametrize("asked", [("heads",), ("head_dim",), ("mlp",), ("width",), ("heads", "mlp")])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_only_the_kinds_asked_for_go_and_the_claim_holds(name: str, asked: tuple[str, ...]) -> None:
    model = TRANSFORMERS[name]()

    result = cut(model, RemoveChannels(budget=Ratio(0.5), units=asked))

    told = groups_told(result)
    kinds = {group.name: group.kind for group in groups(model)}
    there = {row["name"] for row in told if kinds[row["name"]] in asked}
    if not there:
        assert not result.report.steps[0].changed
        return
    assert {row["name"] for row in told if row["kept"] < row["units"]} == there
    (report,) = result.report.steps
    assert report.verified.how == "reference" and (report.verified.error or 0) < 1e-5
    assert (report.verified.movement or 0) > 1e-3


def test_groups_left_out_are_noted_with_their_kind() -> None:
    (report,) = cut(vision(), RemoveChannels(budget=Ratio(0.5), units=("heads", "experts"))).report.steps
    notes = {note.subject: note.text for note in report.notes if note.kind == "skipped"}

    assert notes["block0.mlp.one[1]"] == "its units are of kind mlp; asked for: heads, experts"
    assert notes["experts"] == "no group of this kind can shrink here"


def test_one_kind_may_come_as_it_is_and_unknown_ones_are_refused() -> None:
    assert RemoveChannels(units="heads").units == ("heads",)  # type: ignore[arg-type]
    with pytest.raises(
        InvalidConfig, match="no kind of units 'head'.*heads, head_dim, mlp, width.*mean 'heads'"
    ):
        RemoveChannels(units=("head",))


def test_all_kinds_together_are_the_default() -> None:
    model = vision()

    every, default = (
        groups_told(cut(model, RemoveChannels(budget=MacsBelow(0.5), units=units))) for units in (KINDS, ())
    )

    assert every == default
