"""Cleaning a graph without changing what it computes."""

from graphrewrite.passes.tidy.absorb import AbsorbConstants, FoldBatchNorm
from graphrewrite.passes.tidy.dedupe import MergeDuplicates
from graphrewrite.passes.tidy.drop_unused import DropUnused
from graphrewrite.passes.tidy.fold_constants import FoldConstants
from graphrewrite.passes.tidy.fuse_activations import FuseActivations
from graphrewrite.passes.tidy.fuse_linear import FuseLinear
from graphrewrite.passes.tidy.fuse_norms import FuseNorms
from graphrewrite.passes.tidy.identity import DropNoOps
from graphrewrite.passes.tidy.inline_if import InlineIf
from graphrewrite.passes.tidy.merge import MergeNeighbours
from graphrewrite.passes.tidy.recurrent import DropZeroStates
from graphrewrite.passes.tidy.shape_arithmetic import SimplifyShapes
from graphrewrite.passes.tidy.sink_scale import SinkScale
from graphrewrite.passes.tidy.tidy import Tidy

__all__ = [
    "AbsorbConstants",
    "DropNoOps",
    "DropUnused",
    "DropZeroStates",
    "FoldBatchNorm",
    "FoldConstants",
    "FuseActivations",
    "FuseLinear",
    "FuseNorms",
    "InlineIf",
    "MergeDuplicates",
    "MergeNeighbours",
    "SimplifyShapes",
    "SinkScale",
    "Tidy",
]
