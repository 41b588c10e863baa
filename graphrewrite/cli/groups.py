"""The channel groups of a model for `inspect --groups`: what may go, what ties and saves it, why the rest stays."""

from collections.abc import Iterable, Sequence

from graphrewrite.cli.left import listed, shortened
from graphrewrite.cli.screen import Screen
from graphrewrite.dims.explanation import Explained, Explanation, Obstacle, Weight
from graphrewrite.report import text

# So many groups are told in full unless all are asked for; those that are alike count once.
_TOLD = 8
_NAMES = 4
_TIES = 4
_ROLES = (("producer", "made by"), ("consumer", "read by"), ("vector", "goes along"))


def show_groups(found: Explanation, screen: Screen, whole: bool) -> None:
    """Print the table of groups, the story of each kind of group, and the obstacles; everything when `whole`."""
    screen.line()
    if not found.groups:
        screen.line("no channels can be removed from this model")
    else:
        _show_table(found, screen)
        _show_totals(found, screen)
        families = [[group] for group in found] if whole else alike(found)
        for family in families if whole else families[:_TOLD]:
            show_group(family[0], found, screen, whole)
            if len(family) > 1:
                names = shortened([group.label for group in family[1:]], screen)
                screen.facts([("alike", f"{text.plural(len(family) - 1, 'more group')}: {names}")])
        if not whole and len(families) > _TOLD:
            left = text.plural(len(families) - _TOLD, "further sort", "further sorts")
            screen.line()
            screen.line(f"{left} of groups not told in full; --all tells everything, --group NAME one group")
    _show_obstacles(found.obstacles, found, screen, whole)
    for op, nodes in found.refused.items():
        what = op if op.endswith(")") else f"no dimension rule for {op}"
        screen.line(f"{what}: its axes stay whole ({listed(nodes, screen, 'node')})")


def show_group(group: Explained, found: Explanation, screen: Screen, whole: bool) -> None:
    """Print one group: what it is, what it saves, who makes and reads it, and what ties it together."""
    screen.line()
    screen.heading(f"{group.name}: {text.plural(group.units, 'unit')}, {group.kind}")
    through = f"{100 * group.macs_through / max(found.macs, 1):.1f} % of the MACs are in products with it"
    rows = [
        (
            "one unit saves",
            f"{text.count(group.macs_per_unit)} MACs ({_percent(group.macs_share)}), "
            f"{text.count(group.params_per_unit)} parameters ({_percent(group.params_share)}); {through}",
        ),
        ("stays", f"at least {group.floor} of {group.units}" + _in_steps(group.step)),
    ]
    for role, title in _ROLES:
        rows.extend(_entries(title, _members(group, role), whole, _NAMES))
    through_names = [f"{place.tensor}[{place.axis}]" + _times(place.positions) for place in group.activations]
    rows.extend(_entries("runs through", [_inline(through_names, whole)] if through_names else [], True, 1))
    rows.extend(_entries("tied by", _ties(group), whole, _TIES))
    screen.facts(rows)


def alike(found: Iterable[Explained]) -> list[list[Explained]]:
    """Put groups together that tell the same story: kind, units, and the sorts of members and ties."""
    families: dict[tuple[object, ...], list[Explained]] = {}
    for group in found:
        roles = tuple(sorted((member.role, member.positions) for member in group.members))
        ties = tuple(sorted((tie.op, tie.kind, len(tie.sides), tie.dims) for tie in group.ties))
        families.setdefault((group.kind, group.units, group.step, roles, ties), []).append(group)
    return list(families.values())


def _show_table(found: Explanation, screen: Screen) -> None:
    screen.table(
        ("group", "layer", "kind", "units", "MACs/unit", "of all", "parameters/unit", "joined by"),
        [
            (
                group.name,
                group.label,
                group.kind,
                str(group.units),
                text.count(group.macs_per_unit),
                _percent(group.macs_share),
                text.count(group.params_per_unit),
                _joined_by(group),
            )
            for group in found
        ],
        right=("units", "MACs/unit", "of all", "parameters/unit"),
        title=f"{text.plural(len(found.groups), 'group')} of channels that can be removed together",
    )
    screen.line()
    screen.line("a unit is what goes at once: the same channel in every weight of its group")


def _show_totals(found: Explanation, screen: Screen) -> None:
    total = max(found.macs, 1)
    screen.line(
        f"{100 * (1 - found.fixed / total):.1f} % of {text.count(found.macs)} MACs are in products with a side that "
        f"can shrink; with a single unit in every group {100 * found.least / total:.2f} % would be left"
    )


def _show_obstacles(obstacles: Sequence[Obstacle], found: Explanation, screen: Screen, whole: bool) -> None:
    if not obstacles:
        return
    rows = []
    for obstacle in obstacles:
        names = [_pinned(obstacle, index) for index in range(len(obstacle.pins))]
        rows.append(
            (
                str(len(names)),
                text.count(obstacle.macs),
                _percent(obstacle.macs / max(found.macs, 1)),
                obstacle.reason,
                _inline(names, whole, 3),
            )
        )
    screen.line()
    screen.table(
        ("count", "MACs", "of all", "reason", "which"),
        rows,
        right=("count", "MACs", "of all"),
        title="weight axes that stay whole, by reason, and the MACs of their layers",
    )


def _pinned(obstacle: Obstacle, index: int) -> str:
    pin = obstacle.pins[index]
    share = "" if pin.positions == pin.length else f" {pin.positions} of {pin.length}"
    through = ""
    if pin.chain:
        more = f" and {len(pin.chain) - 1} more" if len(pin.chain) > 1 else ""
        through = f" through {pin.chain[0]}{more}"
    return f"{pin.tensor}[{pin.axis}]{share}{through}"


def _members(group: Explained, role: str) -> list[str]:
    return [f"{_place(member)}{_times(member.positions)}{_layer(member)}" for member in group.of_role(role)]


def _place(member: Weight) -> str:
    return f"{member.tensor}[{member.axis}]"


def _layer(member: Weight) -> str:
    """Return the layers of a weight in brackets, where its name does not say them already."""
    told = [layer for layer in member.layers[:2] if not member.tensor.startswith(layer)]
    more = f" + {len(member.layers) - 2} more" if len(member.layers) > 2 else ""
    return f"  ({' + '.join(told)}{more})" if told else ""


def _ties(group: Explained) -> list[str]:
    """Return the sentences; statistics of many norms make one."""
    norms = [tie for tie in group.ties if tie.kind == "statistics"]
    told = [tie.text for tie in group.ties if tie.kind != "statistics"]
    if len(norms) == 1:
        told.append(norms[0].text)
    elif norms:
        ops = " and ".join(sorted({tie.op for tie in norms}))
        told.append(f"{ops} ({len(norms)} nodes) take statistics over all units that are left")
    return told


def _entries(title: str, lines: Sequence[str], whole: bool, most: int) -> list[tuple[str, str]]:
    """Return rows under one title, the first few unless `whole`."""
    shown = (
        list(lines) if whole or len(lines) <= most + 1 else [*lines[:most], f"and {len(lines) - most} more"]
    )
    return [(title if index == 0 else "", line) for index, line in enumerate(shown)]


def _inline(names: Sequence[str], whole: bool, most: int = 2) -> str:
    if whole or len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def _joined_by(group: Explained) -> str:
    counts: dict[str, int] = {}
    for tie in group.ties:
        if tie.kind != "statistics":
            counts[tie.op] = counts.get(tie.op, 0) + 1
    return ", ".join(f"{op} x{number}" if number > 1 else op for op, number in counts.items())


def _times(positions: int) -> str:
    return "" if positions == 1 else f", {positions} positions a unit"


def _in_steps(step: int) -> str:
    return (
        ", any of them may go"
        if step == 1
        else f"; they go {step} at a time, one of each part of a grouped operator"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
