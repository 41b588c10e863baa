"""Patterns that pick layers by name: `*` stands for any text, all else for itself, since names may hold brackets."""

import re
from collections.abc import Iterable, Sequence

from graphrewrite.errors import InvalidConfig


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern fits whole."""
    fits = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch
    return [name for name in names if fits(name)]


def as_tuples(step: object, *fields: str) -> None:
    """Make tuples of fields of a frozen pass, which may be given as one text or as any sequence of texts."""
    for field in fields:
        given = getattr(step, field)
        object.__setattr__(step, field, (given,) if isinstance(given, str) else tuple(given))


def check_weights_named(patterns: Iterable[str], names: Sequence[str]) -> None:
    """Make sure that every pattern names one of the layers with constant weights.

    Raises:
        InvalidConfig: one names none.
    """
    for pattern in patterns:
        if not matching(pattern, names):
            raise InvalidConfig(
                f"the pattern {pattern!r} names no layer with a constant weight; there are "
                f"{', '.join(names[:6]) or 'none'}{', ...' if len(names) > 6 else ''}; correct it"
            )


def why_left(name: str, only: Sequence[str], skip: Iterable[str], verb: str) -> str | None:
    """Return why a layer is not among those to `verb` ("factor"), None where it is."""
    if only and not any(matching(pattern, [name]) for pattern in only):
        return f"not among the layers to {verb}"
    named = next((pattern for pattern in skip if matching(pattern, [name])), None)
    return None if named is None else f"named by the skip pattern {named!r}"
