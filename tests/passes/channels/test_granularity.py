"""Multiples: the lengths that axes keep, whatever the groups on them are called."""

from collections.abc import Mapping

import pytest

from graphrewrite.dims import groups
from graphrewrite.errors import BudgetError
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from graphrewrite.passes.channels.granularity import steps
from graphrewrite.pipeline.manager import PipelineResult
from tests.passes.channels.nets import attention, cut, details, recurrent, tower


def lengths(result: PipelineResult) -> dict[str, int]:
    """Return "tensor[axis]" -> kept length of everything that was cut."""
    found = {}
    kept = details(result)["kept"]
    assert isinstance(kept, Mapping)
    for name, axes in kept.items():
        assert isinstance(axes, Mapping)
        for axis, positions in axes.items():
            assert isinstance(positions, list)
            if not isinstance(positions[0], list):  # slots of a grouped convolution follow its input
                found[f"{name}[{axis}]"] = len(positions)
    return found


def towers(parts: int, width: int, out: int, seed: int = 1) -> Model:
    """A convolution with groups between plain ones."""
    b = Builder(seed=seed)
    y = b.relu(b.conv(b.input(["N", 3, 6, 6], "x"), width, 3, name="before"))
    y = b.relu(b.conv(y, out, width, group=parts, name="grouped"))
    y = b.relu(b.conv(y, 16, out, kernel=1, name="middle"))
    return b.model(b.conv(y, 2, 16, name="after"))


def test_a_group_of_plain_channels_shrinks_in_steps_of_the_multiple() -> None:
    assert set(steps(groups(tower((8, 12))), 8).values()) == {8}
    assert set(steps(groups(tower((8, 12))), 1).values()) == {1}


def test_units_of_several_positions_need_smaller_steps() -> None:
    """One hidden unit of an LSTM owns four rows of its input weight but one column of its recurrent weight."""
    found = groups(recurrent())
    hidden = next(group for group in found if any(m.tensor == "lstm.r" for m in group.members))

    assert steps(found, 8)[hidden.name] == 8


def test_of_a_product_the_larger_factor_carries_the_multiple() -> None:
    """Four heads of sixteen dims: dims in eights, heads freely; of v, whose dims are their own, the same."""
    found = groups(attention(heads=4, dim=16))
    step = steps(found, 8)

    assert {name: step[name] for name in ("q[1]", "q[1]#2", "v[1]")} == {"q[1]": 1, "q[1]#2": 8, "v[1]": 8}


def test_what_the_larger_factor_cannot_carry_is_left_to_the_other() -> None:
    """Of twelve dims all or eight stay, multiples of four; heads in twos make that eight."""
    found = groups(attention(heads=4, dim=12))
    step = steps(found, 8)

    assert {name: step[name] for name in ("q[1]", "q[1]#2", "v[1]")} == {"q[1]": 2, "q[1]#2": 8, "v[1]": 8}


def test_a_factor_that_is_left_alone_carries_what_it_has() -> None:
    """All sixteen dims of both products stay, so heads may go one by one."""
    found = groups(attention(heads=4, dim=16))

    assert steps(found, 8, {"q[1]#2", "v[1]"})["q[1]"] == 1
    # Of six dims only a factor of two is sure; four heads are needed to make eight.
    assert steps(groups(attention(heads=8, dim=6)), 8, {"q[1]#2", "v[1]"})["q[1]"] == 4


@pytest.mark.parametrize("scope", ["global", "uniform"])
@pytest.mark.parametrize("budget", [MacsBelow(0.7), MacsBelow(0.3), Ratio(0.6)])
@pytest.mark.parametrize("shape", [(4, 16), (4, 12), (8, 6)])
def test_heads_times_dims_are_multiples(
    shape: tuple[int, int], budget: MacsBelow | Ratio, scope: str
) -> None:
    model = attention(*shape, width=32)

    found = lengths(cut(model, RemoveChannels(budget=budget, multiple=8, scope=scope, floor=0)))

    assert found
    assert {name: n for name, n in found.items() if n % 8} == {}


@pytest.mark.parametrize("scope", ["global", "uniform"])
@pytest.mark.parametrize("budget", [MacsBelow(0.7), MacsBelow(0.4), Ratio(0.6)])
@pytest.mark.parametrize("shape", [(4, 32, 48), (2, 16, 32), (6, 48, 96)])
def test_grouped_operators_keep_multiples_and_equal_groups(
    shape: tuple[int, int, int], budget: MacsBelow | Ratio, scope: str
) -> None:
    found = lengths(cut(towers(*shape), RemoveChannels(budget=budget, multiple=8, scope=scope)))

    assert found
    assert {name: n for name, n in found.items() if n % 8} == {}


def test_channels_that_no_multiple_fits_stay_whole() -> None:
    """Three groups that keep equally many, in eights: only all 24 will do."""
    model = towers(3, 24, 24)

    found = lengths(cut(model, RemoveChannels(budget=Ratio(0.5), multiple=8)))

    assert {name.partition("[")[0] for name in found} <= {"w_7", "c_8", "w_10"}  # what the middle makes
    with pytest.raises(BudgetError, match="at most 11.0 % can be removed"):
        cut(model, RemoveChannels(budget=MacsBelow(0.5), multiple=8))


def test_a_group_smaller_than_the_multiple_stays_whole() -> None:
    result = cut(tower((6, 16)), RemoveChannels(budget=Ratio(0.5), multiple=8))

    assert {n for n in lengths(result).values()} == {8}
    assert "w_1[0]" not in lengths(result)
