"""The groups of a model as a graph in Graphviz's language: text, so that nothing has to be installed to make it.

A small net is drawn layer by layer: boxes are layers, ellipses joins, an edge is an activation with the length of the
axis it carries, in the colour of its group; grey is what cannot shrink. Of a large net the groups themselves are the
boxes, those that play the same part in repeated blocks as one, and the edges are the layers between them.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from graphrewrite.dims.explanation import Explained, Explanation, Station
from graphrewrite.report.groups import stages, unprefixed
from graphrewrite.report.text import count, plural, safe

# More stations than this make a strip that no screen holds.
_MOST_STATIONS = 60
_ROUNDS = 3
_GREY = "#9aa3af"
# Twelve tones that can be told apart, on white, one after another.
_COLOURS = (
    "#2463b5", "#2f9e8f", "#d9822b", "#8a63c9", "#5fa03a", "#d1608c",
    "#0f7c94", "#b5542a", "#6671c9", "#96802a", "#b13c6b", "#3d8f52",
)  # fmt: skip
_END = f'shape=plaintext, style=solid, fontcolor="{_GREY}"'
_HEAD = (
    '  graph [rankdir=TB, labelloc=t, labeljust=l, fontname="Helvetica", fontsize=14, ranksep=0.35, nodesep=0.25];',
    '  node [shape=box, style="rounded,filled", fillcolor="#f5f6f8", color="#5d6775", fontname="Helvetica", '
    "fontsize=10, margin=0.08];",
    '  edge [fontname="Helvetica", fontsize=9, arrowsize=0.6, penwidth=1.6];',
)


def dot(found: Explanation, title: str, whole: bool = False) -> str:
    """Return the graph; layer by layer when it is small enough or `whole` is asked for."""
    drawn = len(found.stations) <= _MOST_STATIONS or whole
    free = 100 * (1 - found.fixed / max(found.macs, 1))
    headline = (
        f"{title}: {plural(len(found.groups), 'group')}, {free:.1f} % of {count(found.macs)} MACs can shrink"
    )
    lines = ["digraph groups {", *_HEAD, f"  label={_quoted(headline)};"]
    lines.extend(_layers(found) if drawn else _families(found))
    return "\n".join([*lines, "}"])


# --- layer by layer ---------------------------------------------------------------------------------------------------


def _layers(found: Explanation) -> Iterator[str]:
    colours = {group.name: _COLOURS[index % len(_COLOURS)] for index, group in enumerate(found)}
    units = {group.name: group for group in found}
    yield from _key(found, colours)
    inner = [station for station in found.stations if station.kind in ("layer", "join")]
    labels = dict(zip((s.number for s in inner), unprefixed([s.label for s in inner]), strict=True))
    for number, (first, last, name) in enumerate(
        stages(list(labels.values()), most=max(3, 2 * len(inner) // 3))
    ):
        run = inner[first : last + 1]
        lines = [_station(station, labels[station.number], units, colours) for station in run]
        if len(run) == 1 or not name:
            yield from (f"  {line}" for line in lines)
            continue
        yield f"  subgraph cluster_{number} {{"
        yield f'    label={_quoted(name)}; fontsize=10; color="#dde1e7"; fontcolor="#5d6775";'
        yield from (f"    {line}" for line in lines)
        yield "  }"
    for station in found.stations:
        if station.kind in ("input", "output"):
            yield f"  n{station.number} [label={_quoted(station.label)}, {_END}];"
    for flow in found.flows:
        colour = colours.get(flow.group, _GREY)
        length = f", label={_quoted(str(flow.length))}" if flow.length else ""
        yield f'  n{flow.source} -> n{flow.target} [color="{colour}", fontcolor="{colour}"{length}];'


def _station(station: Station, label: str, units: Mapping[str, Explained], colours: Mapping[str, str]) -> str:
    if station.kind == "join":
        named = _quoted(f"{station.op}\n{_tail(label)}")
        return (
            f'n{station.number} [label={named}, shape=ellipse, margin=0.02, fontsize=9, fillcolor="white"];'
        )
    made = " x ".join(str(units[name].units) for name in station.made if name in units)
    text = f"{_tail(label)}\n{station.op}" + (f", makes {made}" if made else "")
    if station.macs:
        text += f"\n{count(station.macs)} MACs"
    edge = colours.get(next(iter(station.made), ""), _GREY)
    return f'n{station.number} [label={_quoted(text)}, color="{edge}", penwidth=1.6];'


def _key(found: Explanation, colours: Mapping[str, str]) -> Iterator[str]:
    """One box with the groups in their colours, a row each."""
    if not found.groups or len(found.groups) > 2 * len(_COLOURS):
        return
    labels = unprefixed([group.label for group in found])
    titles = ("group", "kind", "units", "MACs one unit saves")
    rows = ["<TR>" + "".join(f"<TD ALIGN='LEFT'>{title}</TD>" for title in titles) + "</TR>"]
    for group, label in zip(found, labels, strict=True):
        cells = (_tail(label), group.kind, str(group.units), f"{100 * group.macs_share:.2f} %")
        colour = colours[group.name]
        rows.append(
            "<TR>"
            + "".join(f"<TD ALIGN='LEFT'><FONT COLOR='{colour}'>{escape(safe(c))}</FONT></TD>" for c in cells)
            + "</TR>"
        )
    table = f"<TABLE BORDER='0' CELLSPACING='0' CELLPADDING='2'>{''.join(rows)}</TABLE>"
    yield f"  key [shape=plaintext, style=solid, fontsize=9, label=<{table}>];"


# --- group by group ---------------------------------------------------------------------------------------------------


def _families(found: Explanation) -> Iterator[str]:
    """Boxes are groups, those of the same part as one; edges are the layers that read one and make the other."""
    links = list(_links(found))
    part = _parts(found, links)
    short = dict(zip((g.name for g in found), unprefixed([g.label for g in found]), strict=True))
    members: dict[int, list[Explained]] = {}
    for group in found:
        members.setdefault(part[group.name], []).append(group)
    for number, groups in members.items():
        yield f'  g{number} [label={_quoted(_family(groups, short))}, color="{_colour(number)}", penwidth=2];'
    edges: dict[tuple[str, str, str], list[str]] = {}
    for source, target, layer in links:
        ends = tuple("" if name == "" else f"g{part[name]}" for name in (source, target))
        colour = _GREY if "" in ends else _colour(part[target])
        edges.setdefault((ends[0] or "entrance", ends[1] or "exit", colour), []).append(layer)
    for end, text in (
        ("entrance", "cannot shrink: inputs, what is pinned"),
        ("exit", "cannot shrink: outputs, what is pinned"),
    ):
        if any(end in key for key in edges):
            yield f"  {end} [label={_quoted(text)}, {_END}];"
    for (source, target, colour), layers in edges.items():
        text = _tail(layers[0]) if len(layers) == 1 else plural(len(layers), "layer")
        yield f'  {source} -> {target} [label={_quoted(text)}, color="{colour}", fontcolor="{colour}"];'


def _links(found: Explanation) -> Iterator[tuple[str, str, str]]:
    """Yield (group read, group made, layer); "" stands for what cannot shrink."""
    arriving: dict[int, dict[str, None]] = {}
    for flow in found.flows:
        if flow.group:
            arriving.setdefault(flow.target, {})[flow.group] = None
    for station in found.stations:
        if station.kind != "layer" or not (station.made or station.read):
            continue
        # A depthwise convolution has no axis that reads: what arrives is what it makes.
        for source in station.read or tuple(arriving.get(station.number, ())) or ("",):
            for target in station.made or ("",):
                if source != target:
                    yield source, target, station.label


def _parts(found: Explanation, links: Sequence[tuple[str, str, str]]) -> dict[str, int]:
    """Number the parts groups play: alike in kind and units, and again in what their neighbours are."""
    before: dict[str, set[str]] = {group.name: set() for group in found}
    after: dict[str, set[str]] = {group.name: set() for group in found}
    for source, target, _ in links:
        if target:
            before[target].add(source)
        if source:
            after[source].add(target)
    part = _numbered({group.name: (group.kind, group.units) for group in found})
    for _ in range(_ROUNDS):
        around = {
            name: (
                part[name],
                tuple(sorted({part.get(other, -1) for other in before[name]})),
                tuple(sorted({part.get(other, -1) for other in after[name]})),
            )
            for name in part
        }
        part = _numbered(around)
    return part


def _numbered(keys: Mapping[str, tuple[object, ...]]) -> dict[str, int]:
    numbers: dict[tuple[object, ...], int] = {}
    return {name: numbers.setdefault(key, len(numbers)) for name, key in keys.items()}


def _family(groups: Sequence[Explained], short: Mapping[str, str]) -> str:
    first = groups[0]
    ops: dict[str, int] = {}
    for tie in (tie for group in groups for tie in group.ties if tie.kind in ("joins", "balances")):
        ops[tie.op] = ops.get(tie.op, 0) + 1
    joined = ", ".join(f"{op} x{number}" if number > 1 else op for op, number in ops.items())
    names = list(dict.fromkeys((_tail(short[first.name]), _tail(short[groups[-1].name]))))
    name = " ... ".join(names)
    each = f"{first.units} units" if len(groups) == 1 else f"{len(groups)} groups of {first.units} units"
    lines = [name, f"{each}, {first.kind}", f"one saves {100 * first.macs_share:.2f} % of the MACs"]
    return "\n".join([*lines, *([f"joined by {joined}"] if joined else [])])


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _tail(label: str, most: int = 32) -> str:
    return label if len(label) <= most else f"...{label[3 - most :]}"


def _quoted(text: str) -> str:
    """Return a string of the language: quotes and backslashes escaped, lines broken, control characters spelled out."""
    lines = (safe(line).replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n"))
    return '"' + "\\n".join(lines) + '"'
