"""Search over the fields of a pipeline: spaces, goals, policies, and the pass that applies what was found."""

from graphrewrite.passes.search.apply import Search
from graphrewrite.passes.search.driver import Found, Plan, search
from graphrewrite.passes.search.goal import Goal
from graphrewrite.passes.search.space import Choice, Each, Space, Span

__all__ = ["Choice", "Each", "Found", "Goal", "Plan", "Search", "Space", "Span", "search"]
