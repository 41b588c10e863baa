"""Each net catches what it is there for: faults planted on purpose, one operator each (planted.cc)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.custom_ops.host.builds import planted
from tests.custom_ops.host.casefile import HostCase, Tensor, write

pytestmark = pytest.mark.timeout(900)
EIGHT = np.arange(1, 9, dtype=np.float32)
FAULTS = ("Read", "Write", "Scratch", "Shift", "Race", "Vague", "Wrong", "Loop")


def file_of(folder: Path, faults: Sequence[str]) -> Path:
    """Write one valid case for each of these faults."""
    same = [Tensor(EIGHT)]
    path = folder / "planted.cases"
    write(
        path,
        [HostCase(f"Planted{fault}", "eight", {"length": ("int", 8)}, same, same, 1e-6) for fault in faults],
    )
    return path


def struck(kind: str, verb: str, fault: str, folder: Path, *more: str) -> str:
    """Run the planted fault into its net, which must not let it through; return what the net said."""
    code, text = planted(kind).run(verb, file_of(folder, [fault]), *more)
    assert code != 0, text
    return text


def fuzzed(kind: str, fault: str, folder: Path, *more: str) -> str:
    """Strike by mutated cases, and see that the report tells how to repeat the one that struck."""
    text = struck(kind, "fuzz", fault, folder, "--op", f"Planted{fault}", "--count", "20000", *more)
    assert f"in Planted{fault}, seed 1, to repeat: --only" in text
    return text


def test_planted_operators_are_right_on_their_case(tmp_path: Path) -> None:
    harmless = [fault for fault in FAULTS if fault not in {"Wrong", "Scratch"}]
    code, text = planted("plain").run("run", file_of(tmp_path, harmless))
    assert code == 0, text
    assert text.startswith("12 runs, 0 wrong")


def test_a_wrong_number_is_seen(tmp_path: Path) -> None:
    assert "off by 0.000125" in struck("plain", "run", "Wrong", tmp_path)


def test_an_error_without_a_reason_is_seen(tmp_path: Path) -> None:
    assert "an unclear error" in fuzzed("plain", "Vague", tmp_path)


def test_a_kernel_that_does_not_end_is_seen(tmp_path: Path) -> None:
    assert "took too long" in fuzzed("plain", "Loop", tmp_path, "--seconds", "2")


def test_an_exception_on_another_thread_arrives_as_an_error(tmp_path: Path) -> None:
    path = tmp_path / "throw.cases"
    for length, expected in ((8, "2 runs, 0 wrong"), (-1, "length is not above zero; part 7 says so")):
        write(
            path,
            [
                HostCase(
                    "PlantedThrow", "eight", {"length": ("int", length)}, [Tensor(EIGHT)], [Tensor(EIGHT)]
                )
            ],
        )
        _, text = planted("plain").run("run", path, "--threads", "3")
        assert expected in text


@pytest.mark.slow
def test_a_read_past_the_end_is_seen(tmp_path: Path) -> None:
    assert "heap-buffer-overflow" in fuzzed("address", "Read", tmp_path)


@pytest.mark.slow
def test_a_write_past_the_end_is_seen(tmp_path: Path) -> None:
    assert "heap-buffer-overflow" in fuzzed("address", "Write", tmp_path)


@pytest.mark.slow
def test_leaving_the_working_memory_is_seen(tmp_path: Path) -> None:
    assert "use-after-poison" in struck("address", "run", "Scratch", tmp_path)


@pytest.mark.slow
def test_undefined_arithmetic_is_seen(tmp_path: Path) -> None:
    assert "shift exponent" in fuzzed("address", "Shift", tmp_path)


@pytest.mark.slow
def test_a_race_is_seen(tmp_path: Path) -> None:
    assert "data race" in struck("thread", "run", "Race", tmp_path, "--threads", "3")
