"""Finding and replacing subgraphs: patterns, rules, and a worklist that runs them to a bounded fixed point."""

from graphrewrite.match.draft import Draft
from graphrewrite.match.matcher import Match, Refusal, match
from graphrewrite.match.pattern import Op, P, Pattern
from graphrewrite.match.rules import FEW, Engine, NearMiss, PatternRule, Rule, RuleSet, Trace, refuse, rule
from graphrewrite.match.view import is_default_domain

__all__ = [
    "FEW",
    "Draft",
    "Engine",
    "Match",
    "NearMiss",
    "Op",
    "P",
    "Pattern",
    "PatternRule",
    "Refusal",
    "Rule",
    "RuleSet",
    "Trace",
    "is_default_domain",
    "match",
    "refuse",
    "rule",
]
