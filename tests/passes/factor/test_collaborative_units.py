"""What units of a convolution lose, against removing every one of them and every further one."""

import numpy as np
import pytest

from graphrewrite.passes.factor.collaborative_units import Reduced, Removal, final, reduced, scored

BOTH = ("channel", "component")


def layer(outputs: int, channels: int, taps: int, seed: int = 0) -> Reduced:
    rng = np.random.default_rng(seed)
    w, g = rng.standard_normal((2, outputs, channels, taps))
    return Reduced.start(w, g, positions=16)


def lost(state: Reduced, weight: np.ndarray) -> float:
    return float(((state.gradient * (weight - state.original)) ** 2).sum())


def units_of(weight: np.ndarray, alive: np.ndarray, rank: int) -> list[np.ndarray]:
    """Every channel and every component of a weight, as arrays that add up to the weight, each kind by itself."""
    channels = [
        np.where(np.arange(weight.shape[1])[None, :, None] == c, weight, 0) for c in np.flatnonzero(alive)
    ]
    u, s, v = np.linalg.svd(weight.reshape(len(weight), -1), full_matrices=False)
    parts = [(s[k] * np.outer(u[:, k], v[k])).reshape(weight.shape) for k in range(rank)]
    return channels + parts


@pytest.mark.parametrize("sizes", [(5, 4, 3), (9, 2, 1), (3, 6, 4)])
@pytest.mark.parametrize("before", [(), ("channel",), ("component", "channel", "component")])
def test_both_terms_are_what_removing_says(sizes: tuple[int, int, int], before: tuple[str, ...]) -> None:
    state = layer(*sizes)
    for kind in before:
        if state.units((kind,)):
            state = state.without(state.units((kind,))[-1])
    found = scored(state, BOTH)

    assert [each.unit for each in found] == state.units(BOTH)
    for unit, backward, forward in found:
        alive = state.alive.copy()
        if unit.kind == "channel":
            alive[unit.number] = False
            left = np.where(alive[None, :, None], state.present, 0)
            rank = min(state.rank, int(alive.sum()) * sizes[2])
        else:
            left = state.present - units_of(state.present, state.alive, state.rank)[alive.sum() + unit.number]
            rank = state.rank - 1
        each = [lost(state, left - part) for part in units_of(left, alive, rank)]
        assert backward == pytest.approx(lost(state, left), rel=1e-8)
        assert forward == pytest.approx(np.mean(each), rel=1e-8)


def test_a_look_ahead_without_the_cross_term_would_be_seen() -> None:
    """The mutation: the mean of the squares alone, as if the weight had not moved yet."""
    state = layer(5, 4, 3).without(Removal("channel", 1))
    square = state.gradient**2
    for unit, backward, forward in scored(state, ("component",)):
        left = state.without(unit)
        parts = units_of(left.present, state.alive, left.rank)
        squares = float(np.mean([(square * part**2).sum() for part in parts]))
        assert abs(backward + squares - forward) > 1e-3 * forward


def test_removing_nothing_is_the_identity() -> None:
    state = layer(6, 5, 9)
    assert reduced(state, state.macs, BOTH, 0.9, 0.01) is state
    assert np.array_equal(final(state), state.original)


def test_dead_channels_and_an_exact_rank_go_first_and_cost_nothing() -> None:
    """Eight channels of which two are dead, rank 3 of 10: what is left is six channels at rank 3, the same numbers."""
    rng = np.random.default_rng(1)
    low = (rng.standard_normal((10, 3)) @ rng.standard_normal((3, 8 * 4))).reshape(10, 8, 4)
    low[:, [2, 5]] = 0
    state = Reduced.start(low, rng.standard_normal(low.shape), 16)
    free = [each.unit for each in scored(state, BOTH, ahead=False) if each.backward < 1e-20]

    assert [unit.number for unit in free if unit.kind == "channel"] == [2, 5]
    assert [unit.number for unit in free if unit.kind == "component"] == list(range(3, 10))
    found = reduced(state, state.sizes.macs(6, 3), BOTH, 0.9, 0.01)
    assert np.flatnonzero(~found.alive).tolist() == [2, 5] and found.rank == 3
    np.testing.assert_allclose(final(found), low, atol=1e-12)


@pytest.mark.parametrize("kinds", [BOTH, ("channel",), ("component",)])
@pytest.mark.parametrize("rate", [0.3, 0.6, 0.8])
def test_the_target_is_met_within_one_step(kinds: tuple[str, ...], rate: float) -> None:
    state = layer(16, 16, 9, seed=3)
    found = reduced(state, (1 - rate) * state.macs, kinds, 0.9, 0.01)
    step = 2 * max(1 / 16, (16 * 9 + 16) / (16 * 16 * 9))
    assert rate <= found.rate <= rate + step


def test_channels_alone_when_they_are_enough() -> None:
    """The gradient makes one channel dear and all others free: they go, and no second convolution is written."""
    state = layer(8, 8, 1, seed=2)
    cheap = Reduced.start(
        state.original, np.where(np.arange(8)[None, :, None] == 0, 1.0, 1e-9) * state.gradient, 4
    )
    found = reduced(cheap, 0.5 * cheap.macs, BOTH, 0.9, 0.01)
    assert found.cut == 0 and found.alive[0]
