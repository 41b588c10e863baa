"""What a run over the corpus says: rows of one model at one budget, tables of them, and the bars they are held to.

`corpus_prune.py` makes the rows; this file writes tests/corpus/RESULTS.md from them.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.common import table

# How a run can end, best first.
PROVED = "proved"
RUNS = "not compared"
NOTHING = "nothing to remove"
BUDGET = "budget out of reach"
WRONG = "differs"
INVALID = "invalid"
FAILED = "error"

CONVOLUTIONAL = ("cnn", "segmentation", "detection", "gan", "superres")

_HEAD = (
    "",
    "files",
    "cut",
    "valid",
    "proved",
    "MACs kept",
    "params kept",
    "worst error",
    "CPU s median",
    "p95",
    "max",
)


@dataclass(frozen=True)
class Row:
    """One model at one budget; shares are of the original, `error` the largest relative difference in the proof."""

    model: str
    family: str
    exporter: str
    source: str
    kind: str
    fraction: float
    end: str
    macs: float = 1.0
    params: float = 1.0
    error: float = 0.0
    movement: float = 0.0
    sizes: int = 0
    cpu: float = 0.0
    nodes: int = 0
    reason: str = ""
    obstacle: str = ""

    @property
    def is_countable(self) -> bool:
        """Whether the model has multiply-accumulates, without which a budget of them means nothing."""
        return "no MACs" not in self.reason


def read(journal: Path) -> Iterator[Row]:
    """Yield the rows of earlier runs; a last line that was cut off is skipped."""
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                yield Row(**json.loads(line))
            except (ValueError, TypeError):
                continue


def page(budgets: Sequence[Sequence[Row]], origin: str) -> str:
    """Return the whole page: bars first, then the tables and exceptions of every budget."""
    parts = [
        "# Pruning the corpus",
        "",
        "Written by `python tests/bench/corpus_prune.py --write` (see tests/bench/README.md). Every file goes",
        'through a pipeline with `verify="full"`: a cut model is *valid* when it passes the check and runs, *proved*',
        "when its outputs equal those of the masked original, at two batch sizes where the batch is free. Weights are",
        "random, so nothing here speaks about accuracy. Shares are medians over what was cut; CPU seconds are those of",
        "analysis, budget and surgery of one run.",
        "",
        origin,
        "",
        "## Against the bars",
        "",
        table(("bar", "asked", "reached", ""), _bars(budgets), left=1),
    ]
    for rows in budgets:
        parts += ["", f"## {_title(rows)}: {len(rows)} files", "", report(rows)]
    return "\n".join(parts) + "\n"


def _title(rows: Sequence[Row]) -> str:
    kind, fraction = rows[0].kind, rows[0].fraction
    return f"{fraction:g} of the MACs" if kind == "macs" else f"`--ratio {fraction:g}`"


def _bars(budgets: Sequence[Sequence[Row]]) -> list[list[str]]:
    rows = [row for budget in budgets for row in budget]
    made = [row for row in rows if row.end in (PROVED, RUNS, WRONG, INVALID)]
    lines = [
        _bar("cut models that are valid", 1.0, made, lambda row: row.end != INVALID),
        _bar("cut models that are proved", 1.0, made, lambda row: row.end == PROVED),
        _bar("files without an unexpected error", 1.0, rows, lambda row: row.end != FAILED),
    ]
    for budget in budgets:
        if budget[0].kind == "macs":
            counted = [row for row in budget if row.is_countable]
            asked = 0.99 if budget[0].fraction == 0.5 else None
            lines.append(
                _bar(
                    f"files with MACs that reach {_title(budget)}", asked, counted, lambda r: r.end == PROVED
                )
            )
        elif budget[0].fraction == 0.5:
            for name, families, most in (
                ("convolutional nets", CONVOLUTIONAL, 0.30),
                ("transformers", ("transformer",), 0.45),
            ):
                kept = [row.params for row in budget if row.family in families and row.end == PROVED]
                if kept:
                    lines.append(_limit(f"params kept, {name}, `--ratio 0.5`, median", most, median(kept)))
    seconds = [row.cpu for row in rows]
    lines.append(_limit("CPU seconds, median", 0.1, median(seconds)))
    lines.append(_limit("CPU seconds, worst", 3.0, max(seconds)))
    return lines


def _bar(name: str, asked: float | None, rows: Sequence[Row], holds: Callable[[Row], bool]) -> list[str]:
    count = sum(holds(row) for row in rows)
    reached = count / max(len(rows), 1)
    verdict = "" if asked is None else "met" if reached >= asked else "**missed**"
    return [
        name,
        "" if asked is None else f"{100 * asked:g} %",
        f"{count} of {len(rows)}, {100 * reached:.2f} %",
        verdict,
    ]


def _limit(name: str, most: float, reached: float) -> list[str]:
    return [name, f"at most {most:g}", f"{reached:.3f}", "met" if reached <= most else "**missed**"]


def report(rows: Sequence[Row]) -> str:
    """Return the table by family, exporter and origin, the totals, and the exceptions with their reasons."""
    lines = []
    for attribute in ("family", "exporter", "source"):
        names = Counter(str(getattr(row, attribute)) for row in rows)
        lines += [
            _line(name, [row for row in rows if getattr(row, attribute) == name])
            for name, _ in names.most_common()
        ]
    lines.append(_line("all", rows))
    ends = Counter(row.end for row in rows)
    told = ", ".join(f"{end} {n}" for end, n in ends.most_common())
    proved = [row for row in rows if row.end == PROVED]
    parts = [
        table(_HEAD, lines),
        "",
        f"Ends: {told}. The proof ran at two sizes for {sum(row.sizes > 1 for row in proved)} files, at one for "
        f"{sum(row.sizes == 1 for row in proved)}; the cut moved no output by more than 1e-3 in "
        f"{sum(row.movement < 1e-3 for row in proved)}.",
    ]
    exceptions = sorted(
        (row for row in rows if row.end != PROVED), key=lambda row: (row.end, row.obstacle, row.model)
    )
    if exceptions:
        parts += ["", "| not proved | how it ended | why |", "|---|---|---|"]
        parts += [f"| {row.model} | {row.end} | {_why(row)} |" for row in exceptions]
    return "\n".join(parts)


def _why(row: Row) -> str:
    left = row.reason.partition("; ask for")[0].partition(" (")
    text = row.reason if row.end != BUDGET else left[0] + left[1] + left[2]
    text = text.partition("; both models are in")[0]  # a folder of the machine it ran on
    return " ".join(f"{text}. {row.obstacle}".split()).replace("|", "/")[:420]


def _line(name: str, rows: Sequence[Row]) -> list[str]:
    cut = [row for row in rows if row.end in (PROVED, RUNS, WRONG, INVALID)]
    done = [row for row in rows if row.end in (PROVED, RUNS)]
    seconds = sorted(row.cpu for row in rows)
    figures = ["-"] * 3
    if done:
        figures = [
            f"{median(r.macs for r in done):.3f}",
            f"{median(r.params for r in done):.3f}",
            f"{max(r.error for r in done):.1e}",
        ]
    return [
        name,
        str(len(rows)),
        str(len(cut)),
        str(sum(row.end != INVALID for row in cut)),
        str(sum(row.end == PROVED for row in rows)),
        *figures,
        f"{median(seconds):.3f}",
        f"{seconds[int(0.95 * (len(seconds) - 1))]:.2f}",
        f"{seconds[-1]:.2f}",
    ]
