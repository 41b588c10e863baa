"""Which groups stay whole because their kind was not asked for."""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from graphrewrite.dims import Groups
from graphrewrite.dims.kinds import KINDS, OWN_DIMS
from graphrewrite.errors import InvalidConfig


class NotAsked(NamedTuple):
    """Group name -> why it stays whole, and kinds that were asked for and have no group."""

    groups: dict[str, str]
    missing: tuple[str, ...]


def check_units(kinds: Sequence[str]) -> None:
    """Raise InvalidConfig unless all kinds are known."""
    for kind in kinds:
        if kind not in (*KINDS, OWN_DIMS):
            close = difflib.get_close_matches(str(kind), (*KINDS, OWN_DIMS), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InvalidConfig(
                f"there is no kind of units {kind!r}; expected some of {', '.join((*KINDS, OWN_DIMS))}{hint} "
                "See which kinds a model has with: inspect --groups"
            )


def not_asked(found: Groups, kinds: Sequence[str]) -> NotAsked:
    """Return the groups whose kind is not among `kinds`; empty asks for all."""
    if not kinds:
        return NotAsked({}, ())
    asked = ", ".join(kinds)
    groups = {
        group.name: f"its units are of kind {group.kind}; asked for: {asked}"
        for group in found
        if group.kind not in kinds
    }
    there = {group.kind for group in found}
    return NotAsked(groups, tuple(dict.fromkeys(kind for kind in kinds if kind not in there)))
