"""Nodes no output depends on, and initializers nothing reads."""

from dataclasses import dataclass
from typing import ClassVar

from graphrewrite.ir import Model
from graphrewrite.match import RuleSet
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes


@passes.register("drop_unused")
@dataclass(frozen=True)
class DropUnused:
    """Drop what no output depends on, in bodies of If, Loop and Scan as well."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Drop it."""
        return tidy(model, RuleSet)
