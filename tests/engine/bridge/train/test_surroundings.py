"""What a run asks of the machine, and what it leaves of it."""

import os
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graphrewrite.bridge.train.surroundings import accelerator_for, surroundings
from graphrewrite.errors import InvalidConfig
from tests.engine.bridge.train.digits import brief


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_a_launch_that_spreads_weights_in_another_way_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(
        distributed_type=f"DistributedType.{kind}", is_fsdp2=False, device=torch.device("cpu")
    )
    monkeypatch.setattr("accelerate.Accelerator", lambda **_: made)
    with pytest.raises(InvalidConfig, match=f"launched with {kind}.*--fsdp_version 2"):
        accelerator_for(brief())


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_seed_rules_every_generator_and_all_are_put_back() -> None:
    before = (random.getstate(), str(np.random.get_state()), torch.get_rng_state())
    with surroundings(3, 1):
        first = drawn()
    with surroundings(3, 1):
        assert drawn() == first
    with surroundings(4, 1):
        assert not set(drawn()) & set(first)
    assert (random.getstate(), str(np.random.get_state())) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_processes_share_the_cores_this_one_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    with surroundings(0, 2):
        assert torch.get_num_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with surroundings(0, 2):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == threads
