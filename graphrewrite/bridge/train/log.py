"""What is left of a run to read: a row for each epoch in a CSV file, or as curves in TensorBoard; a bar meanwhile."""

import csv
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from graphrewrite.errors import MissingExtra

Row: TypeAlias = Mapping[str, "float | int | str"]
Progress: TypeAlias = Callable[[str, int, int], None]


@runtime_checkable
class Log(Protocol):
    """Takes the rows of a run."""

    def start(self, columns: Sequence[str], rows: int) -> None:
        """Begin; of an interrupted run the first `rows` rows stay, what follows is forgotten."""
        ...

    def row(self, values: Row) -> None:
        """Take the row of an epoch; columns may be missing."""
        ...


class CsvLog:
    """Writes `log.csv` in a folder, complete after every row."""

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder) / "log.csv"
        self._columns: list[str] = []

    def start(self, columns: Sequence[str], rows: int) -> None:
        """Write the header; keep the rows of a run that goes on."""
        self._columns = list(columns)
        kept: list[list[str]] = []
        if rows and self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                kept = list(csv.reader(file))[1 : rows + 1]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(f"{self._path.name}.part")
        with beside.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self._columns, *kept])
        os.replace(beside, self._path)

    def row(self, values: Row) -> None:
        """Append a line."""
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([values.get(name, "") for name in self._columns])


class TensorBoardLog:
    """Writes curves over epochs for TensorBoard.

    Raises:
        MissingExtra: TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra(
                f"curves need TensorBoard, which cannot be imported ({error}); no extra brings it; install it with pip "
                "install tensorboard, or keep to the CSV log"
            ) from error
        self._writer = SummaryWriter(str(folder))
        self._rows = 0

    def start(self, columns: Sequence[str], rows: int) -> None:
        """Go on behind the rows there are."""
        self._rows = rows

    def row(self, values: Row) -> None:
        """Add a point to each curve."""
        for name, value in values.items():
            if not isinstance(value, str):
                self._writer.add_scalar(name, value, self._rows)
        self._writer.flush()
        self._rows += 1


def logs_of(given: "str | Path | Log | Sequence[Log] | None") -> list[Log]:
    """Return the logs that were asked for; a path is a folder for a CSV file."""
    if given is None:
        return []
    if isinstance(given, (str, Path)):
        return [CsvLog(given)]
    return [given] if isinstance(given, Log) else list(given)


@contextmanager
def watching(progress: Progress | None, is_main: bool) -> Iterator[Progress]:
    """Give what is told of progress: the caller's own callback, or bars on a terminal, or nobody."""
    if progress is not None or not is_main or not sys.stderr.isatty():
        yield progress or _nobody
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    with Bars(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def told(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step)
            bars.update(tasks[step], completed=done, total=total)

        yield told


def _nobody(step: str, done: int, total: int) -> None:
    """Nobody watches."""
