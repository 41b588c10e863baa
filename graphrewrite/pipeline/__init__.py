"""Running passes: order, clone, verify, report, bisect."""

from graphrewrite.pipeline.base import Bounded, Claim, Context, Free, Note, Outcome, Pass, Same, SameAs

__all__ = ["Bounded", "Claim", "Context", "Free", "Note", "Outcome", "Pass", "Same", "SameAs"]
