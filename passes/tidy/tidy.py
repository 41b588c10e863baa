"""The whole family as one pass."""

from dataclasses import dataclass
from typing import ClassVar

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.match import RuleSet
from graphrewrite.passes.tidy import (
    absorb,
    fuse_activations,
    fuse_linear,
    fuse_norms,
    identity,
    inline_if,
    merge,
    recurrent,
    shape_arithmetic,
    sink_scale,
)
from graphrewrite.passes.tidy.dedupe import MergeInitializers, MergeNodes
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.fold_constants import Folder, KnownValues, constants
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes


@passes.register("tidy")
@dataclass(frozen=True)
class Tidy:
    """Clean a graph: fold, merge and drop until nothing changes; the outputs stay the same.

    `keep_batchnorm` leaves batch norms as nodes, for methods that train or read them. `max_constant_bytes` is how much
    larger than what it replaces a folded constant may be. `fuse` writes activations and norms that exporters spelled
    out as the single operators of the model's own operator set.
    """

    claim: ClassVar[Claim] = Same()

    keep_batchnorm: bool = False
    max_constant_bytes: int = 1 << 20
    fuse: bool = True

    def __post_init__(self) -> None:
        if self.max_constant_bytes < 0:
            raise InvalidConfig(
                f"Tidy.max_constant_bytes is {self.max_constant_bytes}; "
                "it must not be negative; 0 folds nothing that grows"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Clean the model."""
        return tidy(
            model, self._rules, (MergeInitializers, lambda draft: Folder(draft, self.max_constant_bytes))
        )

    def _rules(self) -> RuleSet:
        rules = RuleSet.of(constants, KnownValues()) + identity.RULES + merge.RULES + shape_arithmetic.RULES
        if self.fuse:
            rules += fuse_norms.RULES + fuse_activations.RULES
        rules += absorb.rules(self.max_constant_bytes, self.keep_batchnorm)
        rules += fuse_linear.RULES + inline_if.RULES + recurrent.RULES + sink_scale.RULES
        return rules + RuleSet.of(MergeNodes())
