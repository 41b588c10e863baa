"""When a lowering swaps a layer for an operator of our own: where that is faster here, or always."""

from graphrewrite.errors import InvalidConfig

WHEN = ("faster", "always")
# Why a layer stays whose size nobody knows.
UNSIZED = "how large its output is cannot be told, so neither what it costs"


def check_when(step: str, when: str) -> None:
    """Look at what the pass called `step` was given.

    Raises:
        InvalidConfig: it is none of the two.
    """
    if when not in WHEN:
        raise InvalidConfig(f"{step}.when is {when!r}; expected {' or '.join(map(repr, WHEN))}")
