"""Fine-tuning: a model, a recipe and data in, the same graph with other weights out."""

from graphrewrite.bridge.train.checkpoint import Checkpoints
from graphrewrite.bridge.train.log import CsvLog, TensorBoardLog
from graphrewrite.bridge.train.run import finetune
from graphrewrite.bridge.train.samples import samples_of

__all__ = ["Checkpoints", "CsvLog", "TensorBoardLog", "finetune", "samples_of"]
