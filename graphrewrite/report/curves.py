"""Pictures of many runs and of long ones: what a search tried, and the course of a training."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from graphrewrite.report.plots import AFTER, BEFORE, FAINT, GONE, INK, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Tried(NamedTuple):
    """One candidate: costs as shares of the original's, its quality, whether others beat it, whether it was chosen."""

    costs: Mapping[str, float]
    quality: float
    is_front: bool
    is_chosen: bool


def tradeoff(tried: Sequence[Tried], quality: str, costs: Sequence[str], original: float) -> str:
    """Draw the quality of every candidate over each cost, a panel a cost; "" without candidates.

    `original` is the quality of the model as it was, drawn at a cost of 1.
    """
    if not tried or not costs:
        return ""
    return draw("tradeoff", 3.4, lambda figure: _paint_tradeoff(figure, tried, quality, costs, original))


def _paint_tradeoff(
    figure: "Figure", tried: Sequence[Tried], quality: str, costs: Sequence[str], original: float
) -> None:
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, cost in zip(panels, costs, strict=True):
        for is_front, colour, label in (
            (False, BEFORE, "beaten by another"),
            (True, AFTER, "beaten by none"),
        ):
            chosen = [each for each in tried if each.is_front == is_front and cost in each.costs]
            axes.plot(
                [each.costs[cost] for each in chosen],
                [each.quality for each in chosen],
                "o",
                color=colour,
                markersize=4.5,
                label=label,
                zorder=2 + is_front,
            )
        edge = reached(tried, cost)
        axes.step(
            [share for share, _ in edge],
            [value for _, value in edge],
            where="post",
            color=AFTER,
            linewidth=0.8,
            label="best for this cost",
        )
        taken = [each for each in tried if each.is_chosen and cost in each.costs]
        axes.plot(
            [each.costs[cost] for each in taken],
            [each.quality for each in taken],
            "o",
            markerfacecolor="none",
            markeredgecolor=GONE,
            markersize=10,
            markeredgewidth=1.6,
            label="chosen",
            zorder=4,
        )
        axes.plot([1.0], [original], "+", color=INK, markersize=9, label="original", zorder=4)
        axes.set_xlabel(f"{cost}, of the original's")
        axes.grid(visible=True, color=FAINT)
    panels[0].set_ylabel(quality)
    _legend(figure, panels[0])


def reached(tried: Sequence[Tried], cost: str) -> list[tuple[float, float]]:
    """Return (cost, quality) of those that none with less of this one cost reaches, cheapest first."""
    edge: list[tuple[float, float]] = []
    for each in sorted(tried, key=lambda each: (each.costs.get(cost, inf), -each.quality)):
        if cost in each.costs and (not edge or each.quality > edge[-1][1]):
            edge.append((each.costs[cost], each.quality))
    return edge


def course(losses: Mapping[str, Sequence[float | None]], score: Sequence[float | None], measure: str) -> str:
    """Draw what was measured of each epoch: losses on the left, the score on the right where there is one.

    None stands for an epoch in which something was not measured. "" without epochs.
    """
    present = {name: values for name, values in losses.items() if any(value is not None for value in values)}
    if not present:
        return ""
    return draw("course", 3.2, lambda figure: _paint_course(figure, present, score, measure))


def _paint_course(
    figure: "Figure",
    losses: Mapping[str, Sequence[float | None]],
    score: Sequence[float | None],
    measure: str,
) -> None:
    has_score = any(value is not None for value in score)
    panels = figure.subplots(1, 2 if has_score else 1, squeeze=False)[0]
    for (name, values), colour in zip(losses.items(), (AFTER, GONE, BEFORE, INK), strict=False):
        _line(panels[0], values, colour, name)
    panels[0].set_ylabel("loss")
    _legend(figure, panels[0])
    if has_score:
        _line(panels[1], score, AFTER, measure)
        panels[1].set_ylabel(measure)
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.margins(x=0.02)


def _legend(figure: "Figure", axes: "Axes") -> None:
    """Name what all panels have in common above them: within one it would widen that one."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=5, frameon=False)


def _line(axes: "Axes", values: Sequence[float | None], colour: str, label: str) -> None:
    known = [(number + 1, value) for number, value in enumerate(values) if value is not None]
    axes.plot(
        [number for number, _ in known],
        [value for _, value in known],
        color=colour,
        marker="o",
        markersize=3.5,
        linewidth=1.2,
        label=label,
    )
