"""Running passes: order, clone, verify, report, bisect."""

from graphrewrite.pipeline.base import Bounded, Claim, Context, Free, Note, Outcome, Pass, Same, SameAs
from graphrewrite.pipeline.bisect import Difference, first_difference
from graphrewrite.pipeline.manager import METADATA_KEY, Pipeline, PipelineResult
from graphrewrite.pipeline.registry import passes
from graphrewrite.pipeline.report import Facts, Report, StepReport
from graphrewrite.pipeline.verify import StepError, Verified, compare, relative_error

__all__ = [
    "METADATA_KEY",
    "Bounded",
    "Claim",
    "Context",
    "Difference",
    "Facts",
    "Free",
    "Note",
    "Outcome",
    "Pass",
    "Pipeline",
    "PipelineResult",
    "Report",
    "Same",
    "SameAs",
    "StepError",
    "StepReport",
    "Verified",
    "compare",
    "first_difference",
    "passes",
    "relative_error",
]
