"""Where a command writes: rich tables on a terminal, plain text in a pipe, one JSON document when asked.

Results go to stdout, warnings and progress to stderr. With `--json` the results are the document alone.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO, TypeAlias

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from graphrewrite.pipeline.base import Json
from graphrewrite.report.text import columns, one_line, safe

Progressing: TypeAlias = Callable[[str, int, int], None]


class Screen:
    """The two streams of one run of the command.

    Attributes:
        as_json: results are printed by `document` only; tables and lines are left out.
        verbose: lists are printed whole.
    """

    def __init__(self, out: TextIO, err: TextIO, as_json: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose
        self._out = out
        self._err = err
        self._rich = Console(file=out, highlight=False, markup=False, emoji=False) if out.isatty() else None

    def line(self, text: str = "") -> None:
        """Print one line of the result."""
        if not self.as_json:
            self._out.write(f"{safe(text)}\n")

    def heading(self, text: str) -> None:
        """Print the title of what follows."""
        if self.as_json:
            return
        if self._rich is None:
            self._out.write(f"{safe(text)}\n")
        else:
            self._print(Text(safe(text), style="bold"))

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print named values, one a line."""
        if self.as_json:
            return
        if self._rich is None:
            width = max((len(name) for name, _ in rows), default=0)
            self._out.writelines(f"{safe(name).ljust(width)}  {safe(value)}\n" for name, value in rows)
            return
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows:
            grid.add_row(Text(safe(name)), Text(safe(value)))
        self._print(grid)

    def table(
        self, titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = (), title: str = ""
    ) -> None:
        """Print rows under their column titles; the columns named in `right` hold figures."""
        if self.as_json:
            return
        aligned = frozenset(index for index, name in enumerate(titles) if name in right)
        if self._rich is None:
            if title:
                self._out.write(f"{safe(title)}\n")
            self._out.writelines(f"{line}\n" for line in columns(titles, rows, aligned))
            return
        drawn = Table(
            box=box.SIMPLE_HEAD,
            title=safe(title) or None,
            title_justify="left",
            title_style="bold",
            pad_edge=False,
        )
        for index, name in enumerate(titles):
            drawn.add_column(safe(name), justify="right" if index in aligned else "left", overflow="fold")
        for row in rows:
            drawn.add_row(*(Text(safe(cell)) for cell in row))
        self._print(drawn)

    def warn(self, text: str) -> None:
        """Print one line on stderr, with or without `--json`."""
        self._err.write(f"{one_line(text)}\n")
        self._err.flush()

    def document(self, value: Mapping[str, Json]) -> None:
        """Print the JSON document of this run; nothing without `--json`."""
        if self.as_json:
            self._out.write(f"{to_json(value)}\n")

    @contextmanager
    def progress(self) -> Iterator[Progressing | None]:
        """Give the callback that draws bars on stderr while the block runs; None where nobody watches."""
        if not self._err.isatty():
            yield None
            return
        console = Console(file=self._err, markup=False, highlight=False, emoji=False)
        layout = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*layout, console=console, transient=True) as bars:
            tasks: dict[str, int] = {}

            def show(step: str, done: int, total: int) -> None:
                if step not in tasks:
                    tasks[step] = int(bars.add_task(safe(step), total=total))
                bars.update(bars.task_ids[list(tasks).index(step)], completed=done, total=total)

            yield show

    def _print(self, what: RenderableType) -> None:
        # Through a string: on a closed pipe rich itself would end the process.
        assert self._rich is not None
        with self._rich.capture() as captured:
            self._rich.print(what)
        self._out.write(captured.get())


def to_json(value: Json | Mapping[str, Json], indent: int = 0) -> str:
    """Return ASCII JSON, indented, with lists of plain values on one line; figures JSON cannot hold become null."""
    inner, outer = " " * (indent + 2), " " * indent
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        entries = (
            f"{inner}{json.dumps(str(key))}: {to_json(item, indent + 2)}" for key, item in value.items()
        )
        return "{\n" + ",\n".join(entries) + f"\n{outer}}}"
    if isinstance(value, (list, tuple)):
        if not any(isinstance(item, (Mapping, list, tuple)) for item in value):
            return "[" + ", ".join(to_json(item) for item in value) + "]"
        return "[\n" + ",\n".join(f"{inner}{to_json(item, indent + 2)}" for item in value) + f"\n{outer}]"
    if isinstance(value, float) and not math.isfinite(value):
        return "null"
    return json.dumps(value)
