"""What a command left alone, and why: the commonest question about any pruner, so every command answers it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphrewrite.cli.screen import Screen
from graphrewrite.report import text

_FEW = 3


@dataclass(frozen=True)
class LeftFacts:
    """Something that was left alone, and why."""

    subject: str
    reason: str


def show_left(left: Iterable[LeftFacts], screen: Screen, title: str = "left alone, by reason") -> None:
    """Print what was left alone, grouped by reason and counted; every name when verbose."""
    by_reason: dict[str, list[str]] = {}
    for entry in left:
        by_reason.setdefault(entry.reason, []).append(entry.subject)
    if not by_reason:
        return
    rows = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    screen.line()
    screen.table(
        ("count", "reason", "which"),
        [(str(len(names)), reason, shortened(names, screen)) for reason, names in rows],
        right=("count",),
        title=title,
    )


def listed(names: Sequence[str], screen: Screen, noun: str) -> str:
    """Return how many there are and the first few, or all of them when verbose: "5 nodes: a, b, c, ..."."""
    return f"{text.plural(len(names), noun)}: {shortened(names, screen)}"


def shortened(names: Sequence[str], screen: Screen) -> str:
    """Return the first few names, or all of them when verbose."""
    if screen.verbose or len(names) <= _FEW:
        return ", ".join(names)
    return ", ".join(names[:_FEW]) + ", ..."
