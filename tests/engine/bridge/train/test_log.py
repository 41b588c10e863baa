"""What a run leaves to read, and who is told meanwhile."""

import csv
import io
import sys
from pathlib import Path

import pytest

from graphrewrite.bridge import Stage, finetune
from graphrewrite.bridge.train.log import CsvLog, Row, TensorBoardLog, watching
from graphrewrite.errors import MissingExtra
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.soft_labels import SoftLabels
from tests.engine.bridge.train.digits import brief, held_out, net, training


def test_a_row_for_each_epoch_with_each_loss(tmp_path: Path) -> None:
    stages = (
        Stage(2, 0.01, (CrossEntropy(), CrossEntropy(0.1, weight=2.0))),
        Stage(1, 0.02, (SoftLabels(weight=0.5),)),
    )
    told: list[tuple[str, int, int]] = []
    finetune(
        net(),
        brief(*stages),
        training(96),
        net(seed=2),
        validation=held_out(),
        log=tmp_path,
        progress=lambda *what: told.append(what),
    )
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] + row["epoch"] for row in rows] == ["11", "12", "21"]
    first, last = rows[0], rows[-1]
    assert float(first["loss"]) == pytest.approx(
        float(first["CrossEntropy"]) + 2 * float(first["CrossEntropy#2"]), rel=1e-5
    )
    assert float(last["loss"]) == pytest.approx(0.5 * float(last["SoftLabels"]), rel=1e-5)
    assert last["CrossEntropy"] == "" and 0 < float(last["score"]) < 1 and last["measure"] == "accuracy"
    assert told == [("stage 1", done, 6) for done in range(1, 7)] + [
        ("stage 2", done, 3) for done in range(1, 4)
    ]


def test_rows_of_an_interrupted_run_are_kept_as_far_as_it_goes_on(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "deep" / "er")
    log.start(["epoch", "loss"], 0)
    for epoch in range(3):
        log.row({"epoch": epoch, "loss": 0.5})
    log.start(["epoch", "loss"], 2)
    log.row({"epoch": 9})
    with (tmp_path / "deep" / "er" / "log.csv").open() as file:
        assert list(csv.reader(file)) == [["epoch", "loss"], ["0", "0.5"], ["1", "0.5"], ["9", ""]]


class Kept:
    """A log of one's own."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def start(self, columns: object, rows: int) -> None:
        self.begun = columns

    def row(self, values: Row) -> None:
        self.rows.append(values)


def test_logs_of_ones_own_are_told_too(tmp_path: Path) -> None:
    kept = Kept()
    finetune(net(), brief(), training(32), log=[kept, CsvLog(tmp_path)])
    assert [row["epoch"] for row in kept.rows] == [1, 2] and (tmp_path / "log.csv").exists()


def test_curves_need_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match="install tensorboard"):
        TensorBoardLog(tmp_path)


class Terminal(io.StringIO):
    """Says it is one."""

    def isatty(self) -> bool:
        return True


def test_bars_are_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, is_main, drawn in (
        (Terminal(), True, True),
        (Terminal(), False, False),
        (io.StringIO(), True, False),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        with watching(None, is_main) as told:
            told("stage 1", 1, 2)
            told("stage 1", 2, 2)
        assert ("stage 1" in stream.getvalue()) == drawn
