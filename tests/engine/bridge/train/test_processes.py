"""`accelerate launch` with two processes ends where one process ends."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.ir import Model
from tests.engine.bridge.train.digits import net, same
from tests.engine.bridge.train.spread import trained

ROOT = Path(__file__).resolve().parents[4]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def launched(processes: int, folder: Path, how: str) -> None:
    """Run the script in several processes on the CPU; Accelerate's own launcher takes `--multi_gpu` for "several"."""
    options = (
        f"--multi_gpu --num_processes {processes} --num_machines 1 --main_process_port 0 --mixed_precision no"
    )
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options.split(), "--dynamo_backend", "no"]
        + ["-m", "tests.engine.bridge.train.spread", str(folder), how],
        cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_end_where_one_ends(tmp_path: Path, how: str) -> None:
    spread, alone = tmp_path / "spread", tmp_path / "alone"
    spread.mkdir()
    net().save(spread / "model.onnx")
    launched(2, spread, how)
    if how == "ddp":  # goes on from the last state, behind which nothing is left to do
        launched(2, spread, how)
    first, second = (Model.load(spread / f"trained{rank}.onnx") for rank in range(2))
    assert same(first, second)
    want = trained(net(), alone)
    for name, weight in want.weights.items():
        assert not np.allclose(np.float64(weight), np.float64(net().weights[name]), rtol=1e-3)
        np.testing.assert_allclose(
            np.float64(first.weights[name]), np.float64(weight), rtol=1e-5, atol=1e-5 * np.abs(weight).max()
        )
    for ours, theirs in zip(rows(spread), rows(alone), strict=True):
        for key in ("loss", "validation loss", "score"):
            assert float(ours[key]) == pytest.approx(float(theirs[key]), rel=1e-4)
