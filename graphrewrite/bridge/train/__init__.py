"""Fine-tuning: a model, a recipe and data in, the same graph with other weights out."""

from typing import TYPE_CHECKING

from graphrewrite.bridge.extras import lazily

if TYPE_CHECKING:
    from graphrewrite.bridge.train.checkpoint import Checkpoints
    from graphrewrite.bridge.train.log import CsvLog, TensorBoardLog
    from graphrewrite.bridge.train.run import finetune
    from graphrewrite.bridge.train.samples import samples_of

_HOMES = {
    "Checkpoints": "checkpoint",
    "CsvLog": "log",
    "TensorBoardLog": "log",
    "finetune": "run",
    "samples_of": "samples",
}

__all__ = ["Checkpoints", "CsvLog", "TensorBoardLog", "finetune", "samples_of"]

__getattr__ = lazily(__name__, _HOMES)
