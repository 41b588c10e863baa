"""`graphrewrite prune --units blocks`: which options mean something for whole blocks, and what is printed of them."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Final, cast

from graphrewrite.cli.screen import Screen
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline import Pass
from graphrewrite.pipeline.base import Json
from graphrewrite.report import text

BLOCKS: Final = "blocks"

# What only channels have: the option, its value when it was not given, and what to do instead.
_OF_CHANNELS: Final[tuple[tuple[str, object, str], ...]] = (
    ("multiple", 1, "blocks go whole"),
    ("scope", "global", "a ratio takes the same share of every stage, other budgets choose freely"),
    ("absorb", True, "blocks are never compensated"),
    ("reconstruct", None, "blocks are never compensated"),
    ("may_change", [], "inputs and outputs keep their lengths when blocks go"),
)


def wants_blocks(options: Namespace) -> bool:
    """Whether whole blocks are asked for.

    Raises:
        InvalidConfig: together with kinds of channels, or with options that only channels have.
    """
    if BLOCKS not in options.units:
        return False
    if set(options.units) != {BLOCKS}:
        others = ", ".join(kind for kind in options.units if kind != BLOCKS)
        raise InvalidConfig(
            f"--units names {BLOCKS} and {others}; expected blocks alone: they go by another pass, with a "
            "budget of its own; prune blocks first and the result's channels after, or write both steps into a pipeline"
        )
    for name, default, instead in _OF_CHANNELS:
        if getattr(options, name) != default:
            flag = "--no-absorb" if name == "absorb" else f"--{name.replace('_', '-')}"
            raise InvalidConfig(
                f"{flag} is about channels, but --units asks for {BLOCKS}; expected none ({instead}); "
                "leave it out"
            )
    return True


def remove_blocks(options: Namespace, budget: str, fraction: float) -> Pass:
    """Return the pass these options ask for.

    Raises:
        UnknownNameError: there is no such criterion of blocks.
    """
    from graphrewrite.passes.blocks import RemoveBlocks
    from graphrewrite.passes.blocks.criteria import criteria
    from graphrewrite.passes.channels.budgets import budgets

    return RemoveBlocks(
        criterion=criteria.make(options.criterion),
        budget=budgets.make(budget, fraction=fraction),
        skip=tuple(options.skip),
        floor=options.floor,
    )


def removed(details: Mapping[str, Json]) -> str:
    """Return how many blocks went, in words."""
    rows = _rows(details)
    gone = sum(bool(row["removed"]) for row in rows)
    return f"{gone} of {text.plural(len(rows), 'block')}" if gone else "nothing"


def show_blocks(details: Mapping[str, Json], screen: Screen) -> None:
    """Print every block with what it is worth and what it costs."""
    table = [
        (
            str(row["name"]),
            str(row["kind"]),
            text.count(cast(int, row["macs"])),
            text.count(cast(int, row["params"])),
            f"{cast(float, row['score']):.3g}",
            "removed" if row["removed"] else "",
        )
        for row in _rows(details)
    ]
    if table:
        screen.line()
        head = ("block", "kind", "MACs", "parameters", "score", "")
        screen.table(head, table, right=("MACs", "parameters", "score"))


def _rows(details: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    return cast("list[Mapping[str, Json]]", details["blocks"])


__all__ = ["BLOCKS", "remove_blocks", "removed", "show_blocks", "wants_blocks"]
