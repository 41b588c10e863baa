"""The channel groups of a model for `inspect --groups`: what may go, what it saves, why the rest stays."""

from dataclasses import dataclass

from graphrewrite import cost, dims
from graphrewrite.cli.left import LeftFacts, listed, show_left
from graphrewrite.cli.screen import Screen
from graphrewrite.ir import Model
from graphrewrite.ir.shapes import infer
from graphrewrite.report import text


@dataclass(frozen=True)
class MemberFacts:
    """One weight axis of a group: `role` is producer, consumer or vector; `positions` belong to one unit."""

    tensor: str
    axis: int
    role: str
    positions: int


@dataclass(frozen=True)
class GroupFacts:
    """Units that may go one by one; `saves` is the share of the model's MACs that one unit takes with it."""

    name: str
    units: int
    macs_per_unit: int
    params_per_unit: int
    saves: float
    members: tuple[MemberFacts, ...]


@dataclass(frozen=True)
class GroupsFacts:
    """All groups; `pinned` maps a weight axis to the reason it stays, `no_rule` an operator to its nodes."""

    groups: tuple[GroupFacts, ...]
    pinned: dict[str, str]
    no_rule: dict[str, tuple[str, ...]]


def describe_groups(model: Model) -> GroupsFacts:
    """Analyse a model; MACs are for one sample, as everywhere on the command line."""
    info = infer(model)
    found = dims.groups(model, info)
    batch = cost.of(model, info).batch
    total = max(found.macs(), 1.0)
    groups = tuple(
        GroupFacts(
            group.name,
            group.units,
            round(group.macs_per_unit / batch),
            round(group.params_per_unit),
            group.macs_per_unit / total,
            tuple(MemberFacts(m.tensor, m.axis, m.role, m.index.shape[1]) for m in group.members),
        )
        for group in found
    )
    refused = {op: tuple(names) for op, names in found.analysis.refused.items()}
    return GroupsFacts(groups, dict(found.pinned), refused)


def show_groups(found: GroupsFacts, screen: Screen) -> None:
    """Print the groups, their members when verbose, and the pins by reason."""
    screen.line()
    if found.groups:
        screen.table(
            ("group", "units", "weights", "MACs/unit", "of all", "parameters/unit"),
            [
                (
                    group.name,
                    str(group.units),
                    str(len(group.members)),
                    text.count(group.macs_per_unit),
                    f"{100 * group.saves:.2f} %",
                    text.count(group.params_per_unit),
                )
                for group in found.groups
            ],
            right=("units", "weights", "MACs/unit", "of all", "parameters/unit"),
            title=f"{text.plural(len(found.groups), 'group')} of channels that can be removed together",
        )
    else:
        screen.line("no channels can be removed from this model")
    if screen.verbose:
        screen.line()
        screen.table(
            ("group", "weight", "axis", "role", "positions/unit"),
            [
                (group.name, member.tensor, str(member.axis), member.role, str(member.positions))
                for group in found.groups
                for member in group.members
            ],
            right=("axis", "positions/unit"),
            title="members",
        )
    left = [LeftFacts(name, reason) for name, reason in found.pinned.items()]
    show_left(left, screen, title="weight axes that stay whole, by reason")
    for op, names in found.no_rule.items():
        what = op if op.endswith(")") else f"no dimension rule for {op}"
        screen.line(f"{what}: its axes stay whole ({listed(names, screen, 'node')})")
