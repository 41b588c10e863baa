"""One process of a run that is spread: `accelerate launch --num_processes N spread.py FOLDER ddp|fsdp`.

Trains the net in the folder on digits and writes what came out, one file for each process.
"""

import sys
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from graphrewrite.bridge import Optimiser, Recipe, Stage, finetune
from graphrewrite.bridge.train import run
from graphrewrite.ir import Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.soft_labels import SoftLabels
from tests.engine.bridge.train.digits import brief, held_out, net, training
from tests.engine.bridge.train.learner import Guess, registered

# 203 samples in steps of 32: the last step has 11, which two processes cannot share evenly.
SAMPLES = 203
HIDDEN = str(net().nodes("Relu")[0].outputs[0].name)


def recipe() -> Recipe:
    """Return two stages with everything that has to be put together from all processes."""
    stages = (
        Stage(2, 0.01, (CrossEntropy(),), warmup=0.5),
        Stage(2, 0.01, (CrossEntropy(), SoftLabels(weight=0.5), Guess(HIDDEN))),
    )
    return brief(*stages, clip=1.0, ema=0.5, accumulate=2, optimiser=Optimiser("sgd", {"momentum": 0.9}))


def trained(model: Model, folder: Path, with_states: bool = True) -> Model:
    """Train with a log and verdicts, and with states where there can be some."""
    with registered():
        return finetune(
            model,
            recipe(),
            training(SAMPLES),
            net(seed=9),
            validation=held_out(),
            log=folder,
            checkpoint=folder / "states" if with_states else None,
        )


def sharded(chosen: Recipe) -> Accelerator:
    """Return what `--use_fsdp --fsdp_version 2` gives on GPUs; on a CPU Accelerate does not take the option."""
    AcceleratorState._reset_state(False)
    made = Accelerator(cpu=True, rng_types=[])
    for state in (PartialState, AcceleratorState):
        state._shared_state["distributed_type"] = DistributedType.FSDP
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="no_wrap")
    AcceleratorState._shared_state["fsdp_plugin"] = plugin
    assert made.is_fsdp2
    return made


if __name__ == "__main__":
    at = Path(sys.argv[1])
    if sys.argv[2] == "fsdp":
        vars(run)["accelerator_for"] = sharded
    found = trained(Model.load(at / "model.onnx"), at, with_states=sys.argv[2] == "ddp")
    found.save(at / f"trained{PartialState().process_index}.onnx")
