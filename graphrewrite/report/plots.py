"""The pictures of a report page: SVG text whose colours are the page's, so that light and dark both read well."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphrewrite.report.layers import Layer
from graphrewrite.report.record import Scores
from graphrewrite.report.text import safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-ins that matplotlib draws with; in the finished SVG each becomes a variable of the page's style sheet.
INK, FAINT, BEFORE, AFTER, GONE = "#010203", "#010204", "#010205", "#010206", "#010207"
_VARIABLES = {INK: "--ink", FAINT: "--line", BEFORE: "--before", AFTER: "--after", GONE: "--gone"}
# More names than this under a picture cannot be read.
_MOST_NAMES = 48
_MOST_GROUPS = 60
_MOST_UNITS = 300
_WIDTH = 11.0
STYLE: Mapping[Any, object] = {
    "svg.fonttype": "none",  # letters stay letters: small, selectable, in the font of the page
    "text.usetex": False,
    "text.parse_math": False,  # a dollar in a tensor's name begins no formula
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
}


def depth(layers: Sequence[Layer]) -> str:
    """Draw three panels over the layers in graph order: channels, the share kept, MACs; "" without layers."""
    return draw("depth", 7.4, lambda figure: _paint_depth(figure, layers)) if layers else ""


def paired(salt: str, names: Sequence[str], panels: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw (before, after) of every layer, a panel for each quantity; "" without layers."""
    return draw(salt, 2.3 * len(panels) + 1.2, lambda f: _paint_pairs(f, names, panels)) if names else ""


def scores(groups: Scores) -> str:
    """Draw the score of every unit, a row per group, kept and removed apart; "" without scores.

    `groups` maps a group's name to its scores and the positions of the units that were kept. Of very
    many groups the largest are drawn, of very many units an even selection.
    """
    present = {name: entry for name, entry in groups.items() if len(entry[0])}
    largest = sorted(present, key=lambda name: -len(present[name][0]))[:_MOST_GROUPS]
    shown = {name: entry for name, entry in present.items() if name in set(largest)}
    height = max(1.8, 0.9 + 0.26 * len(shown))
    return draw("scores", height, lambda figure: _paint_scores(figure, shown)) if shown else ""


def _paint_depth(figure: "Figure", layers: Sequence[Layer]) -> None:
    channels, kept, macs = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 3))
    places = list(range(len(layers)))
    _pairs(
        channels,
        places,
        [row.channels_before or 0 for row in layers],
        [row.channels_after or 0 for row in layers],
    )
    channels.set_ylabel("channels made")
    _legend(channels)

    known = [(place, row) for place, row in zip(places, layers, strict=True) if row.channels_before]
    shares = [100 * (row.channels_after or 0) / (row.channels_before or 1) for _, row in known]
    kept.plot([place for place, _ in known], shares, color=AFTER, linewidth=1, marker="o", markersize=4)
    kept.set_ylim(0, 108)
    kept.set_ylabel("channels kept, %")

    _scaled(macs, "MACs per sample", [(row.macs_before, row.macs_after) for row in layers])
    _name_places(macs, [row.name for row in layers])


def _paint_pairs(
    figure: "Figure", names: Sequence[str], panels: Mapping[str, Sequence[tuple[float, float]]]
) -> None:
    column = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, pairs) in zip(column, panels.items(), strict=True):
        _scaled(axes, title, pairs)
    _legend(column[0])
    _name_places(column[-1], names)


def _paint_scores(figure: "Figure", groups: Scores) -> None:
    axes = figure.subplots()
    for row, (values, kept) in enumerate(groups.values()):
        alive = set(kept)
        for colour, chosen, label in ((GONE, False, "removed"), (AFTER, True, "kept")):
            points = _thinned([value for unit, value in enumerate(values) if (unit in alive) == chosen])
            height = [row + (0.14 if chosen else -0.14)] * len(points)
            axes.plot(points, height, "|", color=colour, markersize=7, label=label if row == 0 else None)
    axes.set_yticks(range(len(groups)), [short(name) for name in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_xlabel("score of a unit; higher is kept longer")
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2, markerscale=1.6
    )


def _thinned(points: list[float]) -> list[float]:
    """Return at most `_MOST_UNITS` of the points, the extremes among them: every mark costs bytes in the page."""
    if len(points) <= _MOST_UNITS:
        return points
    ordered = sorted(points)
    step = (len(ordered) - 1) / (_MOST_UNITS - 1)
    return [ordered[round(step * index)] for index in range(_MOST_UNITS)]


def draw(salt: str, height: float, paint: Callable[["Figure"], None]) -> str:
    """Return what `paint` draws as SVG for a page; `salt` keeps the ids of two pictures apart."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        paint(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    # The page decides how wide a picture is.
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"',
        r"\1",
        re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1),
        count=1,
    )


def _pairs(axes: "Axes", places: Sequence[int], before: Sequence[float], after: Sequence[float]) -> None:
    """Draw what is left in front of what there was."""
    many = len(places) > _MOST_NAMES  # gaps between very many bars would show as stripes
    axes.bar(places, before, width=1.0 if many else 0.82, color=BEFORE, label="before")
    axes.bar(places, after, width=1.0 if many else 0.5, color=AFTER, label="after")
    axes.margins(x=0.01)


def _scaled(axes: "Axes", title: str, pairs: Sequence[tuple[float, float]]) -> None:
    """Draw large numbers in the unit that suits them."""
    factor, unit = _scale(max(max(pair) for pair in pairs))
    before, after = ([pair[side] / factor for pair in pairs] for side in (0, 1))
    _pairs(axes, range(len(pairs)), before, after)
    axes.set_ylabel(f"{title}{unit}")


def _legend(axes: "Axes") -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)


def _name_places(axes: "Axes", names: Sequence[str]) -> None:
    if len(names) > _MOST_NAMES:
        axes.set_xlabel("layers in graph order")
        return
    axes.set_xticks(
        range(len(names)), [short(name) for name in names], rotation=60, ha="right", rotation_mode="anchor"
    )


def short(name: str) -> str:
    """Keep the end of a long name: exporters put what tells layers apart last."""
    return safe(name) if len(name) <= 28 else f"...{safe(name[-25:])}"


def _scale(largest: float) -> tuple[float, str]:
    for factor, unit in ((1e9, ", G"), (1e6, ", M"), (1e3, ", k")):
        if largest >= factor:
            return factor, unit
    return 1.0, ""
