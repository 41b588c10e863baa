"""Skip patterns: what they name stays whole, and nothing else does."""

import pytest

from graphrewrite.dims import groups
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels import Ratio, RemoveChannels
from graphrewrite.passes.channels.skip import skipped
from tests.passes.channels.nets import attention, cut, details, residual, tower


def left(model: Model, *patterns: str) -> set[str]:
    """Return the groups that lose nothing."""
    kept = details(cut(model, RemoveChannels(budget=Ratio(0.5), skip=patterns)))["groups"]
    assert isinstance(kept, list)
    return {str(row["name"]) for row in kept if isinstance(row, dict) and row["kept"] == row["units"]}


# tower((8, 12, 6)): conv0 makes w_1[0], conv1 w_8[0], conv2 w_15[0]; c_2 is the gain of the first norm.
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("w_8[0]", {"w_8[0]"}),  # a group: brackets are no wildcard
        ("w_8", {"w_1[0]", "w_8[0]"}),  # a weight: what it makes and what it reads
        ("c_2", {"w_1[0]"}),  # a vector
        ("conv1", {"w_1[0]", "w_8[0]"}),  # a node with a weight
        ("relu_14", {"w_8[0]"}),  # a node without: what passes through it
        ("relu_14_out", {"w_8[0]"}),  # an activation
        ("conv*", {"w_1[0]", "w_8[0]", "w_15[0]"}),
        ("*onv1", {"w_1[0]", "w_8[0]"}),
        ("head", {"w_15[0]"}),
    ],
)
def test_a_pattern_leaves_the_groups_it_names_whole(pattern: str, expected: set[str]) -> None:
    if expected == {"w_1[0]", "w_8[0]", "w_15[0]"}:
        assert set(skipped(groups(tower()), [pattern]).groups) == expected
    else:
        assert left(tower(), pattern) == expected


def test_several_patterns_add_up() -> None:
    assert left(tower(), "c_2", "head") == {"w_1[0]", "w_15[0]"}


def test_a_tensor_in_the_residual_stream_stands_for_the_stream() -> None:
    (add, *_) = [node.outputs[0].name for node in residual().nodes("Add")]

    assert left(residual(), add) == {"w_1[0]"}


def test_tensors_that_are_a_product_of_groups_name_them_all() -> None:
    softmaxed = attention().nodes("Softmax")[0].outputs[0].name

    assert skipped(groups(attention()), [softmaxed]).groups.keys() == {"q[1]"}  # heads, no dims
    assert skipped(groups(attention()), ["q"]).groups.keys() == {"embed[1]", "q[1]", "q[1]#2"}


def test_the_reason_is_told() -> None:
    (step,) = cut(tower(), RemoveChannels(budget=Ratio(0.5), skip=("c_2",))).report.steps

    assert ("w_1[0]", "named by the skip pattern 'c_2'") in {(note.subject, note.text) for note in step.notes}


def test_a_pattern_of_what_stays_anyway_is_told_and_harmless() -> None:
    (step,) = cut(tower(), RemoveChannels(budget=Ratio(0.5), skip=("x",))).report.steps

    assert ("x", "nothing it names could be cut anyway") in {(note.subject, note.text) for note in step.notes}
    assert left(tower(), "x") == set()


@pytest.mark.parametrize("pattern", ["con", "w_8[1]", "conv?", "", "CONV1", "conv[01]"])
def test_a_pattern_that_names_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(
        InvalidConfig, match="names no tensor, node or group of this model; see the names with"
    ) as caught:
        cut(tower(), RemoveChannels(skip=("conv1", pattern)))

    assert repr(pattern) in str(caught.value)


def test_one_pattern_may_come_as_it_is_and_several_as_a_list() -> None:
    assert RemoveChannels(skip="conv1") == RemoveChannels(skip=("conv1",))  # type: ignore[arg-type]
    assert RemoveChannels(skip=["a", "b"]) == RemoveChannels(skip=("a", "b"))  # type: ignore[arg-type]


def test_nodes_without_a_name_do_not_answer_to_every_pattern() -> None:
    b = Builder(seed=1)
    y = b.relu(b.linear(b.input(["N", 3], "x"), 6, 3))
    model = b.model(b.linear(y, 2, 6))
    for node in model.graph.nodes:
        node.name = ""

    with pytest.raises(InvalidConfig):
        skipped(groups(model), [""])
    assert set(skipped(groups(model), ["*"]).groups) == {group.name for group in groups(model)}
