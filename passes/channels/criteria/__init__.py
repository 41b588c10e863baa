"""How much a channel is worth: one criterion per file, found by name."""

from graphrewrite.passes.channels.evidence import Criterion, Evidence, Need
from graphrewrite.registry import Registry

criteria: Registry[Criterion] = Registry("criterion", package=__name__, of=Criterion)

__all__ = ["Criterion", "Evidence", "Need", "criteria"]
