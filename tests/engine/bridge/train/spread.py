"""One process of a run that is spread: `accelerate launch --num_processes N spread.py FOLDER`.

Trains the net in the folder on digits and writes what came out, one file for each process.
"""

import sys
from pathlib import Path

from graphrewrite.bridge import Optimiser, Recipe, Stage, finetune
from graphrewrite.bridge.train.surroundings import accelerator_for
from graphrewrite.ir import Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.soft_labels import SoftLabels
from tests.engine.bridge.train.digits import brief, held_out, net, training

# 203 samples in steps of 32: the last step has 11, which two processes cannot share evenly.
SAMPLES = 203


def recipe() -> Recipe:
    """Return two stages with everything that has to be put together from all processes."""
    stages = (
        Stage(2, 0.01, (CrossEntropy(),), warmup=0.5),
        Stage(2, 0.01, (CrossEntropy(), SoftLabels(weight=0.5))),
    )
    return brief(*stages, clip=1.0, ema=0.5, accumulate=2, optimiser=Optimiser("sgd", {"momentum": 0.9}))


def trained(model: Model, folder: Path) -> Model:
    """Train with a log, states and verdicts."""
    return finetune(
        model,
        recipe(),
        training(SAMPLES),
        net(seed=9),
        validation=held_out(),
        log=folder,
        checkpoint=folder / "states",
    )


if __name__ == "__main__":
    at = Path(sys.argv[1])
    found = trained(Model.load(at / "model.onnx"), at)
    found.save(at / f"trained{accelerator_for(recipe()).process_index}.onnx")
