"""Losses that learn: their nets are drawn, trained, kept in checkpoints, and gone in the end."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from graphrewrite.bridge import Checkpoints, Optimiser, Stage, finetune
from graphrewrite.bridge.losses import Batch
from graphrewrite.bridge.train.batches import Order
from graphrewrite.bridge.train.feeder import Feeder
from graphrewrite.bridge.train.learned import Learned
from graphrewrite.bridge.train.samples import samples_of
from graphrewrite.bridge.train.stage import Carried, Setting, StageRun
from graphrewrite.bridge.train.surroundings import accelerator_for
from graphrewrite.bridge.transforms import StepQuantize
from graphrewrite.ir import Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.runtime import run as run_graph
from tests.engine.bridge.train.digits import brief, held_out, net, same, training
from tests.engine.bridge.train.learner import Guess, registered


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    with registered():
        yield


def hidden(model: Model) -> str:
    return str(model.nodes("Relu")[0].outputs[0].name)


def run_of(stage: Stage, seed: int = 0) -> StageRun:
    """Return a stage over 64 samples, before its first step."""
    model = net()
    recipe = brief(stage, seed=seed, optimiser=Optimiser("sgd"))
    samples = samples_of(training(64), model, "the training data")
    feeder = Feeder(samples, Order(64, 32, 0))
    return StageRun(Setting(model, recipe, accelerator_for(recipe), feeder, None), stage, 0, Carried({}, {}))


def test_the_net_fits_the_tensor_and_takes_its_own_share_of_the_rate() -> None:
    run = run_of(Stage(1, 0.1, (CrossEntropy(), Guess(hidden(net()), rate=0.5))))
    assert [tuple(tensor.shape) for tensor in run.learned.state.values()] == [(10, 64), (10,)]
    assert [group["lr"] for group in run.optimiser.param_groups][-1] == pytest.approx(0.05)


def test_a_step_is_that_of_the_optimiser() -> None:
    run = run_of(Stage(1, 0.1, (Guess(hidden(net()), rate=0.5, weight=3.0),)))
    run.train()
    (parts,) = list(run.setting.feeder.steps(0, 1))
    before = {name: tensor.detach().clone() for name, tensor in run.learned.state.items()}
    batch = run.learned.handed(run.batch(parts[0][1], 0.0))[0]
    wanted = torch.autograd.grad(3.0 * run.stage.losses[0](batch), list(run.learned.nets.parameters()))
    run.step(0, 0, parts)
    for (name, now), gradient in zip(run.learned.state.items(), wanted, strict=True):
        torch.testing.assert_close(now.detach(), before[name] - 0.05 * gradient)


def test_grids_start_from_the_first_batch_and_not_from_what_the_net_was_drawn_for() -> None:
    name = hidden(net())
    run = run_of(Stage(1, 1e-9, (Guess(name),), transforms={name: StepQuantize(4, signed=False)}))
    (place,) = run.places
    assert (
        not bool(run.live[f"{place}.form.started"]) and float(run.live[f"{place}.form.step"].detach()) == 1.0
    )
    run.train()
    parts = next(iter(run.setting.feeder.steps(0, 0)))
    run.step(0, 0, parts)
    seen = np.asarray(run_graph(net(), {"image": parts[0][1].feeds["image"]}, [name])[name], np.float32)
    assert len(seen) == 32
    assert float(run.live[f"{place}.form.step"].detach()) == pytest.approx(
        2 * np.abs(seen).mean() / 15**0.5, rel=1e-5
    )


def test_the_model_learns_through_it_or_not() -> None:
    name = hidden(net())
    for detached in (False, True):
        stage = Stage(1, 0.01, (CrossEntropy(), Guess(name, detached=detached)))
        found = finetune(net(), brief(stage), training(64))
        alone = finetune(net(), brief(Stage(1, 0.01, (CrossEntropy(),))), training(64))
        assert same(found, alone) is detached


def test_the_model_comes_back_as_it_went_in_but_for_its_numbers() -> None:
    found = finetune(net(), brief(Stage(1, 0.01, (Guess(hidden(net())),))), training(64))
    assert [node.op for node in found.nodes()] == [node.op for node in net().nodes()]
    assert {name: weight.shape for name, weight in found.weights.items()} == {
        name: weight.shape for name, weight in net().weights.items()
    }


def test_the_seed_of_the_recipe_draws_it() -> None:
    stage = Stage(1, 0.1, (Guess(hidden(net())),))
    one, same_one, other = (run_of(stage, seed).learned.state["0.weight"] for seed in (1, 1, 2))
    assert torch.equal(one, same_one) and not torch.equal(one, other)


def test_an_equal_loss_goes_on_in_the_next_stage_and_another_starts_anew() -> None:
    batch = Batch({"a": torch.ones(2, 3)})
    first = Learned([Guess("a"), Guess("a", rate=2.0)], lambda: batch, 0)
    with torch.no_grad():
        for parameter in first.nets.parameters():
            parameter.fill_(7.0)
    second = Learned([Guess("a", rate=2.0), Guess("a", weight=5.0)], lambda: batch, 0, first)
    assert bool((second.state["0.weight"] == 7).all()) and not bool((second.state["1.weight"] == 7).any())


def test_a_run_that_is_interrupted_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    guess = Guess(hidden(net()), rate=0.3)
    recipe = brief(Stage(2, 0.01, (CrossEntropy(), guess)), Stage(1, 0.01, (guess,)), clip=1.0)
    whole = finetune(net(), recipe, training(96), validation=held_out())

    class Enough(Exception):
        pass

    def stop(step: str, done: int, total: int) -> None:
        if done == 5:
            raise Enough

    states = Checkpoints(tmp_path, every=1)
    with pytest.raises(Enough):
        finetune(net(), recipe, training(96), validation=held_out(), checkpoint=states, progress=stop)
    written = {file: file.read_bytes() for file in tmp_path.iterdir()}
    again = finetune(net(), recipe, training(96), validation=held_out(), checkpoint=states)
    assert same(again, whole)
    # Without what the loss had learned by then the run would end elsewhere.
    for file in tmp_path.iterdir():
        file.unlink()
    for file, content in written.items():
        file.write_bytes(content)
    newest = sorted(tmp_path.glob("*.safetensors"))[-1]
    tensors = load_file(newest)
    assert any(name.startswith("learned/") for name in tensors)
    save_file(
        {
            name: torch.zeros_like(tensor) if name.startswith("learned/") else tensor
            for name, tensor in tensors.items()
        },
        newest,
    )
    forgetful = finetune(net(), recipe, training(96), validation=held_out(), checkpoint=states)
    assert not same(forgetful, whole)
