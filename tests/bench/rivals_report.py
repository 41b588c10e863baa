"""What a run beside the rivals says: one row for a network and a tool, tables by family and by source, who wins where.

`rivals_prune.py` makes the rows; `page` turns them into RESULTS_RIVALS.md.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.common import table

PRUNED = "pruned"
WHOLE = "left whole"
FAILED = "failed"
# Differences in parameters below this share are a tie: rounding of channel counts.
TIE = 0.02


@dataclass(frozen=True)
class Row:
    """One tool on one network, asked for ratio 0.5; shares are of the original, `half` says half the MACs were gone.

    `end` is "pruned" when the result runs and lost something, "left whole" when it lost less than one percent.
    """

    architecture: str
    family: str
    source: str
    tool: str
    end: str
    half: bool = False
    macs: float = 1.0
    params: float = 1.0
    seconds: float = 0.0
    setting: str = ""
    reason: str = ""


def page(rows: Sequence[Row], machine: str, tools: tuple[str, ...]) -> str:
    """Return the whole page in Markdown."""
    names = {row.architecture for row in rows}
    parts = [
        "# Channel removal beside its rivals",
        f"Written by `python tests/bench/rivals_prune.py --write`; {len(names)} networks that the corpus builds\n"
        "from torch modules, random weights. torch-pruning prunes the module (`BasePruner`, group magnitude, output\n"
        "layers ignored, head counts told and repaired as in its examples, or not told: the better of up to three\n"
        "ways); onnxsim the export (as it is, after its own simplify, or with attention fused: the best of the\n"
        "three, channels and heads); we the same export. All are asked for ratio 0.5.\n\n"
        "**pruned**: runs at two batch sizes with finite outputs of the old shapes and lost at least 1 % of\n"
        "parameters or MACs; ours also proved equal to its masked reference. **half**: half the MACs gone (a rival\n"
        "may ask for up to 0.9). **params kept**, **seconds** (CPU, the call alone): medians over what a tool\n"
        "pruned. MACs: torch's own counter for torch-pruning, ours for both tools that write ONNX. Networks are taken\n"
        "in an order made of their names' checksums, so that a run cut short is a sample.\n\n"
        "What this does not say: a rival's result is only run, not compared with a masked original; its failures hold\n"
        f"for these calls; {_stopped(rows)} failures are the limit of time (20 s for a way of calling, on a machine\n"
        "that others use), where more patience may give more.",
        f"```\n{machine}\n```",
        "## All",
        _table(rows, tools, lambda row: "all"),
        "## By source",
        _table(rows, tools, lambda row: row.source),
        "## By family",
        _table(rows, tools, lambda row: row.family),
        "## Network by network",
        _duels(rows, tools),
        "## What stops each tool",
        _reasons(rows, tools),
    ]
    return "\n\n".join(parts)


def _stopped(rows: Sequence[Row]) -> int:
    return sum(
        row.end == FAILED and ("TimeoutError" in row.reason or "no result" in row.reason) for row in rows
    )


def _table(rows: Sequence[Row], tools: tuple[str, ...], kind: object) -> str:
    assert callable(kind)
    lines = []
    for name in sorted({kind(row) for row in rows}):
        for tool in tools:
            mine = [row for row in rows if kind(row) == name and row.tool == tool]
            done = [row for row in mine if row.end == PRUNED]
            ends = Counter(row.end for row in mine)
            lines.append(
                [
                    name, tool, str(len(mine)), _share(len(done), len(mine)),
                    _share(sum(row.half for row in mine), len(mine)), str(ends[WHOLE]), str(ends[FAILED]),
                    f"{median(row.params for row in done):.2f}" if done else "-",
                    f"{median(row.seconds for row in done):.3f}" if done else "-",
                ]
            )  # fmt: skip
    head = ("", "tool", "networks", "pruned", "half", "whole", "failed", "params kept", "seconds")
    return table(head, lines, left=2)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


def _duels(rows: Sequence[Row], tools: tuple[str, ...]) -> str:
    """Compare the first tool with each other one on every network, and name where the other wins."""
    by_name = {(row.architecture, row.tool): row for row in rows}
    names = sorted({row.architecture for row in rows})
    ours, *others = tools
    parts = []
    for tool in others:
        both = [(by_name[n, ours], by_name[n, tool]) for n in names]
        pruned = [(a, b) for a, b in both if a.end == PRUNED and b.end == PRUNED]
        fewer = sum(a.params < b.params - TIE for a, b in pruned)
        more = sum(b.params < a.params - TIE for a, b in pruned)
        only = [b.architecture for a, b in both if b.end == PRUNED and a.end != PRUNED]
        halves = [b.architecture for a, b in both if b.half and not a.half]
        faster = sum(b.seconds < a.seconds for a, b in pruned)
        kept = (
            f" Medians of parameters kept there: {median(a.params for a, _ in pruned):.2f} and"
            f" {median(b.params for _, b in pruned):.2f}."
            if pruned
            else ""
        )
        parts.append(
            f"**{tool}**: both pruned {len(pruned)}; there {ours} keeps fewer parameters in {fewer}, {tool} in {more}"
            f" (closer than {TIE:.0%} is a tie), {tool} is faster in {faster}.{kept}"
            f" Only {tool} prunes: {', '.join(only) or 'none'}."
            f" Only {tool} reaches half the MACs: {', '.join(halves) or 'none'}."
        )
    return "\n\n".join(parts)


def _reasons(rows: Sequence[Row], tools: tuple[str, ...]) -> str:
    """The most frequent first words of failures, and the networks left whole."""
    parts = []
    for tool in tools:
        failed = [row for row in rows if row.tool == tool and row.end == FAILED]
        whole = [row.architecture for row in rows if row.tool == tool and row.end == WHOLE]
        words = Counter(_kind(row.reason) for row in failed)
        told = "; ".join(f"{reason} ({count})" for reason, count in words.most_common(8)) or "nothing"
        left = ", ".join(whole[:12]) + (f" and {len(whole) - 12} more" if len(whole) > 12 else "")
        parts.append(f"**{tool}** fails by: {told}. Left whole: {left or 'none'}.")
    return "\n\n".join(parts)


def _kind(reason: str) -> str:
    """A reason without its numbers, so that equal failures count together."""
    if reason.startswith("no result"):
        return reason
    words = "".join("n" if c.isdigit() else c for c in reason)
    while "nn" in words:
        words = words.replace("nn", "n")
    return words[:70].rstrip()
