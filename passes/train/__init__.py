"""Passes that train: recovery by a recipe, by a teacher, and pruning in rounds. They need torch (the extra `train`)."""

from graphrewrite.passes.train.distill import Distill
from graphrewrite.passes.train.finetune import FineTune
from graphrewrite.passes.train.prune_loop import PruneLoop
from graphrewrite.passes.train.recalibrate import RecalibrateNorms

__all__ = ["Distill", "FineTune", "PruneLoop", "RecalibrateNorms"]
