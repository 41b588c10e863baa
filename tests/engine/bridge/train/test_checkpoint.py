"""A run that is killed goes on where it was, and ends with the very same bytes."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphrewrite.bridge import Checkpoints, Optimiser, Recipe, Stage, finetune
from graphrewrite.bridge.transforms import StepQuantize
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.soft_labels import SoftLabels
from tests.engine.bridge.train.digits import INPUT, brief, held_out, net, same, training

ROOT = Path(__file__).resolve().parents[4]


def dropping() -> Model:
    """Return a net that draws random numbers while it trains and measures its batches."""
    b = Builder(seed=0)
    x = b.input(["N", 64], INPUT)
    hidden = b.relu(b.batchnorm(b.linear(x, 32, 64), 32))
    dropped = b.op("Dropout", hidden, b.constant(0.25), b.constant(True))
    model = b.model(b.linear(dropped, 10, 32))
    model.outputs[0].name = "scores"
    return model


def recipe() -> Recipe:
    """Return two stages with everything that has a state: momentum, average, transforms, verdicts."""
    first = Stage(2, 0.01, (CrossEntropy(), SoftLabels(weight=0.5)))
    second = Stage(3, 0.005, (CrossEntropy(),), transforms={"w_*": StepQuantize(4)})
    return brief(first, second, ema=0.9, clip=1.0)


def train(folder: Path | None, resume: bool = True) -> Model:
    where = None if folder is None else Checkpoints(folder, every=3)
    teacher = net(seed=9)
    return finetune(
        dropping(),
        recipe(),
        training(300),
        teacher,
        validation=held_out(),
        checkpoint=where,
        log=folder,
        resume=resume,
    )


def numbers(folder: Path) -> list[int]:
    return sorted(int(file.stem.removeprefix("state-")) for file in folder.glob("state-*.json"))


@pytest.mark.parametrize("reached", [pytest.param(5, marks=pytest.mark.slow), 33])
def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path, reached: int) -> None:
    """Ten steps an epoch, a state every three: killed in the middle of an epoch, resumed in another process."""
    script = "from pathlib import Path; from tests.engine.bridge.train.test_checkpoint import train; "
    script += f"train(Path({str(tmp_path)!r}))"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE)
    end = time.monotonic() + 120
    while not any(number >= reached for number in numbers(tmp_path)) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it was over before it was killed"
    left = numbers(tmp_path)
    assert len(left) <= 2 and left[-1] < 50
    assert same(train(tmp_path), train(None))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        ("1", "1"), ("1", "2"), ("2", "1"), ("2", "2"), ("2", "3")
    ]  # fmt: skip


def test_a_run_that_was_over_is_not_run_again(tmp_path: Path) -> None:
    first = train(tmp_path)
    states = numbers(tmp_path)
    started = time.monotonic()
    assert same(train(tmp_path), first)
    assert numbers(tmp_path) == states and time.monotonic() - started < 30
    assert same(train(tmp_path, resume=False), first)


def test_the_log_of_a_resumed_run_is_that_of_a_whole_one(tmp_path: Path) -> None:
    def rows(folder: Path) -> list[dict[str, str]]:
        with (folder / "log.csv").open() as file:
            return [
                {key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)
            ]

    train(tmp_path / "whole")
    train(tmp_path / "parts")
    # Forget what came after a state in the middle of the second stage's first epoch.
    for file in (tmp_path / "parts").glob("state-*"):
        file.unlink()
    interrupted(tmp_path / "parts", 24)
    train(tmp_path / "parts")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


class Interrupted(Exception):
    """Stands for the user's Ctrl-C."""


def interrupted(folder: Path, step: int) -> None:
    """Run until so many steps are taken, then stop as if interrupted."""
    taken = 0

    def count(name: str, done: int, total: int) -> None:
        nonlocal taken
        taken += 1
        if taken > step:
            raise Interrupted

    with pytest.raises(Interrupted):
        finetune(
            dropping(),
            recipe(),
            training(300),
            net(seed=9),
            validation=held_out(),
            checkpoint=Checkpoints(folder, every=3),
            log=folder,
            progress=count,
        )


def test_a_torn_state_is_passed_over(tmp_path: Path) -> None:
    interrupted(tmp_path, 8)
    # What a kill between the two files of a state, or in the middle of one, leaves behind.
    (tmp_path / "state-000000009.safetensors").write_bytes(b"torn")
    (tmp_path / "state-000000012.json.part").write_text("{")
    assert same(train(tmp_path), train(None))


@pytest.mark.parametrize("field", ["step", "optimiser", "generators"])
def test_a_state_that_forgets_something_ends_elsewhere(tmp_path: Path, field: str) -> None:
    interrupted(tmp_path, 8)
    newest = sorted(tmp_path.glob("*.json"))[-1]
    found = json.loads(newest.read_text())
    if field == "step":
        found["step"] -= 1
    elif field == "optimiser":
        found["optimiser"]["param_groups"][0]["betas"] = [0.0, 0.999]
    else:
        found["generators"] = []
    newest.write_text(json.dumps(found))
    assert not same(train(tmp_path), train(None))


def test_another_run_or_a_broken_state_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path, 8)
    other = brief(optimiser=Optimiser("sgd"))
    with pytest.raises(InvalidData, match="another run"):
        finetune(dropping(), other, training(300), net(seed=9), checkpoint=tmp_path)
    newest = sorted(tmp_path.glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    with pytest.raises(InvalidData, match="cannot be read"):
        train(tmp_path)


def test_the_rest_is_json_one_can_read(tmp_path: Path) -> None:
    interrupted(tmp_path, 8)
    found = json.loads(sorted(tmp_path.glob("*.json"))[-1].read_text())
    assert (found["stage"], found["epoch"], found["step"]) == (0, 0, 6)
    with pytest.raises(InvalidConfig, match="every=0"):
        Checkpoints(tmp_path, every=0)
