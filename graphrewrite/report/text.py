"""Figures and tables as text: short numbers for people, and columns that line up in a pipe."""

import re
from collections.abc import Sequence

_UNITS = ("", " k", " M", " G", " T", " P")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def count(value: float) -> str:
    """Return a number of things in three significant figures: 1234567 -> "1.23 M"; below 1000 as it is."""
    unit = 0
    scaled = float(value)
    while abs(scaled) >= 999.5 and unit < len(_UNITS) - 1:
        scaled /= 1000
        unit += 1
    return f"{scaled:.0f}" if unit == 0 else f"{_three(scaled)}{_UNITS[unit]}"


def size(value: float) -> str:
    """Return a number of bytes in decimal units: 2800000 -> "2.80 MB"."""
    text = count(value)
    return f"{text}B" if " " in text else f"{text} B"


def seconds(value: float) -> str:
    """Return a duration in the unit that suits it: 0.00123 -> "1.23 ms"."""
    if value >= 1:
        return f"{_three(value)} s"
    if value >= 1e-3:
        return f"{_three(value * 1e3)} ms"
    return f"{_three(value * 1e6)} us"


def change(before: float, after: float) -> str:
    """Return how much smaller or larger something became: "-50.2 %", or "" when there was nothing before."""
    if before == 0:
        return ""
    percent = 100 * (after - before) / before
    return "0 %" if abs(percent) < 0.05 else f"{percent:+.1f} %"


def error(value: float | None) -> str:
    """Return an error figure in two significant digits; None and not-a-number read "none" and "nan"."""
    if value is None:
        return "none"
    return "0" if value == 0 else f"{value:.1e}"


def shape(sizes: Sequence[object] | None) -> str:
    """Return sizes in brackets, "?" for what is not known."""
    if sizes is None:
        return "?"
    return "[" + ", ".join("?" if entry is None or entry == "" else safe(str(entry)) for entry in sizes) + "]"


def plural(number: int, noun: str, many: str = "") -> str:
    """Return "1 node" or "3 nodes"; `many` is for nouns that do not just take an s."""
    return f"{number} {noun if number == 1 else many or noun + 's'}"


def safe(text: str) -> str:
    """Return text whose control characters are spelled out: names in a model file must not steer a terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """Return a message on a single line, safe to print."""
    return safe(" ".join(text.split()))


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int]) -> list[str]:
    """Return lines in which each column has one width; the columns numbered in `right` are right-aligned."""
    cells = [[safe(cell).replace("\n", " ").replace("\t", " ") for cell in row] for row in (titles, *rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(titles))]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _three(value: float) -> str:
    magnitude = abs(value)
    return f"{value:.0f}" if magnitude >= 99.95 else f"{value:.1f}" if magnitude >= 9.995 else f"{value:.2f}"
