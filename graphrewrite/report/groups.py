"""The groups of a model along its depth, as a picture: every bar is a group, every column a layer.

A bar reaches from the first layer that makes or reads the group to the last; bars of one kind share lanes as long as
they do not overlap, so that a net of a hundred layers takes a handful of lanes. Below, what each layer costs.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphrewrite.dims.explanation import Explained, Explanation, Obstacle
from graphrewrite.errors import InvalidConfig
from graphrewrite.report.plots import AFTER, BEFORE, FAINT, INK, STYLE, draw
from graphrewrite.report.text import count, plural, safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png")

# What stand-ins become in a picture of its own, on white.
_PAPER = {INK: "#1d2430", FAINT: "#dde1e7", BEFORE: "#c3ccd8", AFTER: "#2463b5"}
# Mid tones, which read on light and on dark.
_KINDS = {
    "width": "#3b78c4",
    "channels": "#2f9e8f",
    "hidden": "#8a63c9",
    "mlp": "#5fa03a",
    "heads": "#d9822b",
    "head_dim": "#d1608c",
    "own_head_dim": "#b8475f",
    "experts": "#a0692f",
    "other": "#7d8794",
}
_PINNED = "#9aa3af"
# Shape, meaning, and which way it moves when a layer both makes and reads a group.
_MARKS = (("^", "layer makes it", -1), ("v", "layer reads it", 1), ("o", "layers are joined", 0))
_MOST_NAMES = 64
_MOST_OBSTACLES = 4
_LANE = 0.34
_WIDTH = 11.0


@dataclass(frozen=True)
class _Bar:
    """A group, or what is pinned for one reason, as drawn: columns from `start` to `stop` in lane `lane`."""

    start: int
    stop: int
    lane: int
    colour: str
    label: str
    height: float
    kept: float
    made: tuple[int, ...]
    read: tuple[int, ...]
    joins: tuple[int, ...]


def check_picture(path: str) -> None:
    """Check that a picture of this name can be drawn, before the work that it is to show.

    Raises:
        InvalidConfig: the name has another ending than a known format.
        MissingExtra: matplotlib is not installed.
    """
    from graphrewrite.report.page import require

    if Path(path).suffix.lower() not in FORMATS:
        raise InvalidConfig(
            f"{path!r} is no kind of picture; expected a name that ends in {' or '.join(FORMATS)}; "
            f"write to {str(Path(path).with_suffix('.svg'))!r}"
        )
    require()


def picture(found: Explanation, title: str, suffix: str) -> bytes:
    """Return the picture as a file of this format (".svg" or ".png"), dark on white, under a title."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    chart = _Chart(found, {})
    style = {key: _PAPER.get(str(value), value) for key, value in STYLE.items()}
    with rc_context({**style, "svg.hashsalt": "groups"}):
        figure = Figure(figsize=(_WIDTH, chart.height), layout="constrained", facecolor="white")
        chart.paint(figure, _PAPER)
        figure.suptitle(_headline(found, title), x=0.01, ha="left", fontsize=10)
        stream = io.BytesIO()
        if suffix.lower() == ".png":
            figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
        else:
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def groups(found: Explanation, kept: Mapping[str, int]) -> str:
    """Return the picture as SVG for a page; `kept` has the units left of each group. "" without groups."""
    if not found.groups:
        return ""
    chart = _Chart(found, kept)
    return draw("groups", chart.height, lambda figure: chart.paint(figure, {}))


class _Chart:
    """Where everything goes, and how it is drawn."""

    def __init__(self, found: Explanation, kept: Mapping[str, int]) -> None:
        self.found = found
        self.kept = kept
        joining = {tie.node for group in found for tie in group.ties if tie.kind == "joins"}
        self.columns = [s for s in found.stations if s.kind == "layer" or s.node in joining]
        self.bars, self.lanes = self._bars()
        self.margin = min(0.18, 0.007 * len(self.columns))
        self.height = 2.6 + _LANE * max(len(self.lanes), 1)

    def paint(self, figure: "Figure", colours: Mapping[str, str]) -> None:
        """Draw lanes above, costs below."""
        above, below = figure.subplots(
            2, 1, sharex=True, height_ratios=(max(_LANE * len(self.lanes), 0.5), 1.1)
        )
        self._paint_links(above, colours)
        self._paint_bars(above, colours)
        self._paint_costs(below, colours)
        self._name_columns(below, colours)

    # --- layout ---------------------------------------------------------------------------------------------------

    def _bars(self) -> tuple[list[_Bar], list[str]]:
        """Return the bars and the name of each lane, kinds one after another, what is pinned last."""
        spots: dict[str, tuple[set[int], set[int], set[int]]] = {}  # made, read, joined at
        for column, station in enumerate(self.columns):
            for part, names in enumerate((station.made, station.read)):
                for name in names:
                    spots.setdefault(name, (set(), set(), set()))[part].add(column)
        column_of = {station.node: column for column, station in enumerate(self.columns)}
        for group in self.found:
            at = {column_of[t.node] for t in group.ties if t.kind == "joins" and t.node in column_of}
            spots.setdefault(group.name, (set(), set(), set()))[2].update(at)
        largest = max((group.units for group in self.found), default=1)
        bars: list[_Bar] = []
        lanes: list[str] = []
        for kind in _KINDS:
            mine = [
                group for group in self.found if (group.kind if group.kind in _KINDS else "other") == kind
            ]
            drawn = [group for group in mine if any(spots[group.name])]
            extents = [_extent(set().union(*spots[group.name])) for group in drawn]
            packed = _packed(extents)
            for lane, group, (start, stop) in zip(packed, drawn, extents, strict=True):
                made, read, joins = spots[group.name]
                bars.append(
                    _Bar(
                        start,
                        stop,
                        len(lanes) + lane,
                        _KINDS[kind],
                        self._label(group),
                        0.3 + 0.5 * (group.units / largest) ** 0.5,
                        self.kept.get(group.name, group.units) / group.units,
                        tuple(sorted(made)),
                        tuple(sorted(read)),
                        tuple(sorted(joins - made)),
                    )
                )
            lanes.extend([kind if lane == 0 else "" for lane in range(max(packed, default=-1) + 1)])
        columns_of: dict[str, list[int]] = {}
        for column, station in enumerate(self.columns):
            columns_of.setdefault(station.label, []).append(column)
        reaches = [(o, self._reach(o, columns_of)) for o in self.found.obstacles if o.macs]
        reaches = [(obstacle, reach) for obstacle, reach in reaches if reach][:_MOST_OBSTACLES]
        packed = _packed([_extent(reach) for _, reach in reaches])
        for lane, (obstacle, reach) in zip(packed, reaches, strict=True):
            label = f"stays: {_clipped(_cause(obstacle.reason), 60)}"
            marks = tuple(sorted(reach))
            start, stop = _extent(reach)
            bars.append(_Bar(start, stop, len(lanes) + lane, _PINNED, label, 0.3, 1.0, marks, (), ()))
        lanes.extend(["pinned" if lane == 0 else "" for lane in range(max(packed, default=-1) + 1)])
        return bars, lanes

    def _label(self, group: Explained) -> str:
        left = self.kept.get(group.name, group.units)
        return str(group.units) if left == group.units else f"{group.units} \u2192 {left}"

    @staticmethod
    def _reach(obstacle: Obstacle, columns: Mapping[str, list[int]]) -> set[int]:
        layers = {layer for pin in obstacle.pins for layer in pin.layers}
        return {column for layer in layers for column in columns.get(layer, ())}

    # --- drawing --------------------------------------------------------------------------------------------------

    def _paint_links(self, axes: "Axes", colours: Mapping[str, str]) -> None:
        """A thin line in each column from what a layer reads to what it makes."""
        ends: dict[int, list[int]] = {}
        for bar in self.bars:
            if bar.colour == _PINNED:
                continue
            for column in (*bar.made, *bar.read, *bar.joins):
                ends.setdefault(column, []).append(bar.lane)
        spans = [(column, min(lanes), max(lanes)) for column, lanes in ends.items() if len(lanes) > 1]
        axes.vlines(
            [column for column, _, _ in spans],
            [low for _, low, _ in spans],
            [high for _, _, high in spans],
            color=_of(colours, BEFORE),
            linewidth=0.8,
            zorder=1,
        )

    def _paint_bars(self, axes: "Axes", colours: Mapping[str, str]) -> None:
        from matplotlib.collections import PolyCollection

        width = max(len(self.columns), 1)
        for alpha, is_kept in ((0.28, False), (0.85, True)):
            boxes = []
            for bar in self.bars:
                half = 0.5 * bar.height * (bar.kept if is_kept else 1.0)
                left, right = bar.start - self.margin, bar.stop + self.margin
                boxes.append(
                    [
                        (left, bar.lane - half),
                        (right, bar.lane - half),
                        (right, bar.lane + half),
                        (left, bar.lane + half),
                    ]
                )
            axes.add_collection(
                PolyCollection(
                    boxes,
                    facecolors=[bar.colour for bar in self.bars],
                    edgecolors="none",
                    alpha=alpha,
                    zorder=2,
                )
            )
        size = 16 if width <= _MOST_NAMES else 6
        for part, (shape, label, shift) in enumerate(_MARKS):
            spots = [
                (column + shift * self.margin * (column in bar.made and column in bar.read), bar.lane)
                for bar in self.bars
                if bar.colour != _PINNED
                for column in (bar.made, bar.read, bar.joins)[part]
            ]
            axes.scatter(
                [x for x, _ in spots], [y for _, y in spots], s=size, marker=shape, c="white", linewidths=0.4,
                edgecolors="#333333", zorder=3, label=label,
            )  # fmt: skip
        for bar in self.bars:
            self._name_bar(axes, bar)
        axes.set_yticks(range(len(self.lanes)), self.lanes)
        axes.set_ylim(len(self.lanes) - 0.4, -0.6)
        axes.tick_params(axis="both", length=0)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        legend = axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2, fontsize=8
        )
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1)

    def _name_bar(self, axes: "Axes", bar: _Bar) -> None:
        """Write beside a bar, or on it where it is long and grey; leave it out where there is no room."""
        width = len(self.columns)
        room = width * (0.01 + 0.0075 * len(bar.label))
        gap = min(
            (b.start for b in self.bars if b.lane == bar.lane and b.start > bar.stop), default=2 * width
        )
        if bar.colour != _PINNED and gap - bar.stop < room:
            return
        x, shift, align = bar.stop + self.margin, 5, "left"
        if bar.colour == _PINNED and bar.stop - bar.start > room:
            x, shift, align = (bar.start + bar.stop) / 2, 0, "center"
        elif bar.colour == _PINNED and bar.stop + room > width:
            x, shift, align = bar.start - self.margin, -5, "right"
        axes.annotate(
            bar.label,
            (x, bar.lane),
            (shift, 0),
            textcoords="offset points",
            va="center",
            ha=align,
            fontsize=7.5,
            zorder=4,
        )

    def _paint_costs(self, axes: "Axes", colours: Mapping[str, str]) -> None:
        free = [station.macs - station.fixed for station in self.columns]
        fixed = [station.fixed for station in self.columns]
        places = range(len(self.columns))
        thick = min(0.7, 0.1 + 0.03 * len(self.columns))
        axes.bar(places, free, width=thick, color=_of(colours, AFTER), label="can shrink")
        if any(fixed):
            axes.bar(places, fixed, width=thick, bottom=free, color=_PINNED, label="no side can shrink")
            axes.legend(loc="upper right", frameon=False, fontsize=8)
        axes.set_ylabel("MACs")
        axes.yaxis.set_major_formatter(lambda value, _: count(value))
        axes.margins(x=0.01)

    def _name_columns(self, axes: "Axes", colours: Mapping[str, str]) -> None:
        names = unprefixed([station.label for station in self.columns])
        if len(names) <= _MOST_NAMES:
            axes.set_xticks(
                range(len(names)),
                [_clipped_left(name, 30) for name in names],
                rotation=60,
                ha="right",
                rotation_mode="anchor",
                fontsize=7,
            )
            return
        runs = stages(names)
        axes.set_xticks(
            [(start + stop) / 2 for start, stop, _ in runs],
            [_clipped_left(name, 30) for _, _, name in runs],
            rotation=60,
            ha="right",
            rotation_mode="anchor",
            fontsize=7,
        )
        for start, _, _ in runs[1:]:
            axes.axvline(start - 0.5, color=_of(colours, FAINT), linewidth=0.6, zorder=0)


def stages(names: Sequence[str], most: int = 28) -> list[tuple[int, int, str]]:
    """Return runs (first, last, name) of neighbours with a common path, as deep as keeps their number small."""
    parts = [name.replace("/", ".").split(".") for name in names]
    best = [(0, len(names) - 1, "")]
    for depth in range(1, 8):
        runs: list[tuple[int, int, str]] = []
        for index, part in enumerate(parts):
            head = ".".join(part[:depth])
            if runs and runs[-1][2] == head:
                runs[-1] = (runs[-1][0], index, head)
            else:
                runs.append((index, index, head))
        if len(runs) > most:
            break
        best = runs
    return best


def _packed(extents: Sequence[tuple[int, int]]) -> list[int]:
    """Return a lane for each extent, so that those of one lane do not overlap; they may touch."""
    ends: list[int] = []
    lanes = [0] * len(extents)
    for index in sorted(range(len(extents)), key=lambda i: extents[i]):
        start, stop = extents[index]
        lane = next((lane for lane, end in enumerate(ends) if end < start), len(ends))
        if lane == len(ends):
            ends.append(stop)
        ends[lane] = stop
        lanes[index] = lane
    return lanes


def _cause(reason: str) -> str:
    """Return what is behind a reason, where it is said in brackets at its end."""
    return reason[reason.rindex("(") + 1 : -1] if reason.endswith(")") and "(" in reason else reason


def unprefixed(names: Sequence[str]) -> list[str]:
    """Leave out the path that most names begin with."""
    lead = ""
    while True:
        longer: dict[str, int] = {}
        for name in names:
            if name.startswith(lead) and "/" in name[len(lead) :]:
                head = name[: name.index("/", len(lead)) + 1]
                longer[head] = longer.get(head, 0) + 1
        head = max(longer, key=lambda key: longer[key], default="")
        if not head or longer[head] <= 0.6 * len(names):
            return [name.removeprefix(lead) for name in names]
        lead = head


def _headline(found: Explanation, title: str) -> str:
    free = 100 * (1 - found.fixed / max(found.macs, 1))
    number = plural(len(found.groups), "group")
    return f"{safe(title)}: {number} of channels; {free:.1f} % of {count(found.macs)} MACs can shrink"


def _extent(columns: set[int]) -> tuple[int, int]:
    return min(columns), max(columns)


def _of(colours: Mapping[str, str], stand_in: str) -> str:
    return colours.get(stand_in, stand_in)


def _clipped(text: str, most: int) -> str:
    return safe(text) if len(text) <= most else f"{safe(text[: most - 3])}..."


def _clipped_left(text: str, most: int) -> str:
    """Keep the end of a long name: exporters put what tells layers apart last."""
    return safe(text) if len(text) <= most else f"...{safe(text[3 - most :])}"
