"""Failures as one line and an exit code."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.errors import InvalidModel, VerificationError
from tests.engine.cli.conftest import Run

COMMAND = [sys.executable, "-P", "-m", "graphrewrite"]


def with_probe(monkeypatch: pytest.MonkeyPatch, act: Callable[[], int]) -> None:
    """Make every verb called `inspect` run `act` instead."""

    class Probe:
        summary: ClassVar[str] = "Acts."
        examples: ClassVar[str] = "none"

        def configure(self, parser: ArgumentParser) -> None: ...

        def run(self, options: Namespace, screen: Screen) -> int:
            return act()

    monkeypatch.setattr(verbs, "make", lambda name: Probe())


def test_no_command_is_one_line_and_two(run: Run) -> None:
    ran = run()
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "name a command" in ran.err


def test_an_unknown_command_lists_the_nearest(run: Run) -> None:
    ran = run("insepct")
    assert ran.code == 2
    assert "did you mean inspect" in ran.err


@pytest.mark.parametrize(
    "words", [["inspect"], ["inspect", "a", "b"], ["--json", "inspect"], ["inspect", "--nonsense", "a"]]
)
def test_bad_usage_is_one_line_and_two(run: Run, words: list[str]) -> None:
    ran = run(*words)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "--help" in ran.err


def test_help_has_examples_and_zero(run: Run) -> None:
    for name in verbs:
        ran = run(name, "--help")
        assert (ran.code, ran.err) == (0, "")
        assert f"graphrewrite {name} " in ran.out.split("examples:")[1], name


def test_the_overview_lists_every_verb(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    assert [name for name in verbs if f"  {name} " not in ran.out] == []


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").out.startswith("graphrewrite ")


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (InvalidModel("bad\nfile"), 2, "error: bad file"),
        (VerificationError("claim broken"), 1, "claim broken"),
        (MemoryError(), 2, "not enough memory"),
        (OSError(28, "No space left on device", "out.onnx"), 2, "out.onnx: No space left"),
        (ZeroDivisionError("x"), 2, "please report"),
        (RecursionError("deep"), 2, "please report"),
    ],
)
def test_every_failure_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, word: str
) -> None:
    def act() -> int:
        raise error

    with_probe(monkeypatch, act)
    ran = run("inspect")
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert word in ran.err
    assert "Traceback" not in ran.err


def test_a_failure_with_json_is_a_document_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> int:
        raise InvalidModel("bad file")

    with_probe(monkeypatch, act)
    ran = run("inspect", "--json")
    assert ran.code == 2
    assert ran.document == {"error": {"kind": "InvalidModel", "message": "bad file"}, "exit_code": 2}


def test_the_traceback_is_shown_on_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> int:
        raise ZeroDivisionError("here")

    with_probe(monkeypatch, act)
    monkeypatch.setenv("GRAPHREWRITE_DEBUG", "1")
    assert "Traceback" in run("inspect").err


def test_what_user_code_prints_stays_off_stdout(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> int:
        print("chatter")
        return 0

    with_probe(monkeypatch, act)
    ran = run("inspect", "--json")
    assert (ran.out, ran.err) == ("", "chatter\n")


def test_an_interrupt_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> int:
        raise KeyboardInterrupt

    with_probe(monkeypatch, act)
    ran = run("inspect")
    assert (ran.code, ran.err.count("\n")) == (130, 1)


def test_a_termination_unwinds_like_an_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    unwound = []

    def act() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            unwound.append(True)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    with_probe(monkeypatch, act)
    assert run("inspect").code == 130
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_it_runs_outside_the_main_thread(run: Run, small: Path) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run("inspect", small).code))
    thread.start()
    thread.join()
    assert codes == [0]


# ------------------------------------------------------------------------------------------ as a process of its own


def test_a_closed_pipe_is_no_failure(small: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "inspect", str(small)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def test_a_full_disk_under_stdout_is_told(small: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no full device")
    with full.open("w") as sink:
        done = subprocess.run(
            [*COMMAND, "inspect", str(small)], stdout=sink, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 2
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_pipe_is_plain_and_colourless_whatever_the_environment(small: Path) -> None:
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run([*COMMAND, "inspect", str(small)], capture_output=True, timeout=60, env=environment)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert done.stdout.isascii()


def test_one_document_on_stdout_and_nothing_on_stderr(small: Path) -> None:
    done = subprocess.run([*COMMAND, "inspect", str(small), "--json"], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["nodes"] == 3
