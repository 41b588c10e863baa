"""Latencies are taken in turns, add up, and order models by their work."""

import os

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.ir import Builder, Model
from graphrewrite.runtime import bench, latency, run_session


def net(width: int) -> Model:
    b = Builder()
    y = b.conv(b.input(["N", 3, 32, 32], "x"), out=width, into=3)
    for _ in range(2):
        y = b.relu(b.conv(y, out=width, into=width))
    return b.model(y)


def test_a_model_with_a_hundredth_of_the_work_is_faster() -> None:
    first, second = latency([("wide", net(64)), ("narrow", net(4))], threads=1, budget=1.0)

    assert first.ratio == 1.0 and second.ratio < 0.5
    assert (first.label, second.label) == ("wide", "narrow")
    assert first.inputs == second.inputs == "x [2, 3, 32, 32]"


def test_the_figures_follow_from_the_runs() -> None:
    timing = bench.Timing("m", (0.3, 0.1, 0.2, 0.4, 0.5), 1.0, 0.0, "", 1, "", "")

    assert (timing.median, timing.fastest) == (0.3, 0.1)
    assert timing.p95 == pytest.approx(0.48)  # 0.95 of the way along 4 gaps lies 0.8 into the last one


def test_rivals_take_turns_and_all_run_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []

    def watched(started: object, feeds: object) -> object:
        order.append(id(started))
        return run_session(started, feeds)  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "run_session", watched)
    timings = latency([("a", net(4)), ("b", net(4))], threads=1, budget=0.2)

    first, second = order[:2]
    assert first != second
    assert order == [first, second] * (len(order) // 2)
    assert len(timings[0].seconds) == len(timings[1].seconds) < len(order) // 2  # the rest was warm-up


def test_a_small_budget_still_gives_a_median_and_few_rounds_are_kept() -> None:
    assert len(latency([("a", net(4))], budget=0.0)[0].seconds) == bench.FEWEST_ROUNDS
    assert len(latency([("a", net(4))], budget=5.0, most_rounds=7)[0].seconds) == 7


def test_the_report_names_runtime_and_machine() -> None:
    import onnxruntime

    (timing,) = latency([("a", net(4))], budget=0.0, threads=1)

    assert timing.runtime == f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider"
    assert f"{os.cpu_count()} cores" in timing.machine and timing.threads == 1 and timing.load > 0


def test_each_model_may_have_its_own_inputs() -> None:
    b = Builder()
    other = b.model(b.relu(b.input(["N", 7], "y")))
    one, two = {"x": np.zeros((1, 3, 32, 32), np.float32)}, {"y": np.zeros((4, 7), np.float32)}

    timings = latency([("a", net(4)), ("b", other)], [one, two], budget=0.0)

    assert [timing.inputs for timing in timings] == ["x [1, 3, 32, 32]", "y [4, 7]"]


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="nothing to measure"):
        latency([])
    with pytest.raises(InvalidConfig, match="1 sets of inputs for 2 models"):
        latency([("a", net(4)), ("b", net(4))], [{}])
    with pytest.raises(InvalidData, match="the data for a lacks the input 'x'"):
        latency([("a", net(4))], {})
