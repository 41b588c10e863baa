"""Measuring how fast layers run on this machine, so that passes can foretell what is worth doing."""

import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from graphrewrite import custom_ops
from graphrewrite.cost.speeds import Point, Speeds, Work
from graphrewrite.custom_ops.presence import forced
from graphrewrite.runtime.inputs import sample_inputs
from graphrewrite.runtime.session import session
from graphrewrite.runtime.workloads import Workload, workloads

_LAYERS = 4  # of the longer chain; the shorter has one, and the slope between them is what a layer costs in a network
_ROUNDS = 5
_LONGEST = 0.4  # seconds for one layer; a call that takes longer is repeated less often


def calibrate(
    isa: str, forms: Sequence[str] = (), progress: Callable[[str, int, int], None] | None = None
) -> Speeds:
    """Measure all forms of layers, or the given ones, with an instruction set; seconds are CPU time of one thread.

    Chains of one and of four layers are run in turns, with weights of their own; the median of the difference counts.

    Raises:
        UnknownNameError: there is no such form.
        KernelUnavailable: there is no compiled library, so that there is nothing to choose between.
    """
    import onnxruntime as ort

    custom_ops.library_path()
    chosen = list(forms) or list(workloads)
    tasks = [(form, workloads.make(form), work) for form in chosen for work in workloads.make(form).sizes()]
    points = []
    with forced(isa):
        for number, (form, workload, work) in enumerate(tasks):
            if progress is not None:
                progress("measuring", number, len(tasks))
            points.append(Point(form, work, _layer_seconds(workload, work)))
    return Speeds(isa, machine(), f"onnxruntime {ort.__version__}", tuple(points))


def machine() -> str:
    """Return the name of the processor, as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            found = next(
                (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), ""
            )
    except OSError:
        found = platform.processor()
    return found or platform.machine()


def _layer_seconds(workload: Workload, work: Work) -> float:
    calls: list[Callable[[], object]] = []
    for layers in (1, _LAYERS):
        model = workload.chain(work, layers, seed=layers)
        started = session(model, threads=1, spinning=False)
        calls.append(partial(started.run, None, sample_inputs(model)))
    spent: list[list[float]] = [[], []]
    for call in calls:
        call()
    begin = time.perf_counter()
    for _ in range(_ROUNDS):
        for number, call in enumerate(calls):
            start = time.thread_time_ns()
            call()
            spent[number].append((time.thread_time_ns() - start) * 1e-9)
        if time.perf_counter() - begin > _LONGEST:
            break
    slope = median(long - short for short, long in zip(*spent, strict=True)) / (_LAYERS - 1)
    # A layer cannot take less than a tenth of its share: such a slope is noise.
    return float(max(slope, 0.1 * min(spent[1]) / _LAYERS))
