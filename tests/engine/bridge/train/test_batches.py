"""Which samples make a step: each once in an epoch, the same for any number of processes and passes."""

import numpy as np
import pytest

from graphrewrite.bridge.train.batches import Order


@pytest.mark.parametrize(("samples", "batch"), [(10, 4), (8, 4), (3, 5), (1, 1)])
def test_every_sample_is_seen_once_in_an_epoch(samples: int, batch: int) -> None:
    order = Order(samples, batch, seed=3)
    seen = np.concatenate([order.whole(2, step) for step in range(order.steps)])
    assert sorted(seen) == list(range(samples))


def test_the_order_depends_on_seed_and_epoch() -> None:
    first = Order(50, 50, 0).whole(0, 0)
    assert np.array_equal(first, Order(50, 10, 0).whole(0, 0).tolist() + first[10:].tolist())
    assert not np.array_equal(first, Order(50, 50, 0).whole(1, 0))
    assert not np.array_equal(first, Order(50, 50, 1).whole(0, 0))


@pytest.mark.parametrize(("batch", "processes", "passes"), [(8, 2, 1), (7, 2, 3), (5, 3, 2), (2, 3, 1)])
def test_processes_and_passes_share_a_step(batch: int, processes: int, passes: int) -> None:
    whole = Order(batch, batch, 0).whole(0, 0)
    parts = [list(Order(batch, batch, 0, passes, rank, processes).parts(0, 0)) for rank in range(processes)]
    counted = [part for own in parts for part in own if part.share]
    assert np.array_equal(np.concatenate([part.numbers for part in counted]), whole)
    # Averaged over processes, the shares weigh every sample alike.
    for part in counted:
        assert part.share / processes == pytest.approx(len(part.numbers) / batch)
    assert all(own for own in parts)


def test_a_process_without_samples_runs_one_for_nothing() -> None:
    (part,) = Order(2, 2, 0, 1, 2, 3).parts(0, 0)
    assert len(part.numbers) == 1 and part.share == 0


def test_evaluation_sees_the_stored_order_once() -> None:
    seen = [numbers.tolist() for rank in range(2) for numbers in Order(5, 2, 0, 1, rank, 2).stored()]
    assert seen == [[0, 1], [2], [3, 4]]
