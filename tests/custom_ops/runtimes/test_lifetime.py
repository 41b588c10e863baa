"""One library, many sessions: at once, one after the other, from several threads, with several instruction sets."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from graphrewrite import custom_ops
from graphrewrite.custom_ops.presence import forced
from tests.support.kernels import assert_agree, by_reference, fed, isas, needs_library, one_node, started

pytestmark = needs_library

# One operator with packed constants and working memory, and one that is little but its call.
OPS = ("HadamardLinear", "PackSigns")


@pytest.mark.parametrize("op", OPS)
def test_sessions_of_several_instruction_sets_run_at_once(op: str) -> None:
    spec = custom_ops.find(op)
    case = max(spec.cases(), key=lambda case: sum(value.size for value in case.inputs.values()))
    model, feeds = one_node(spec, case, function=False), dict(fed(spec, case))
    sessions = []
    for isa in isas():
        with forced(isa):
            sessions += [started(model, kernels=True, threads=threads) for threads in (1, 2)]

    alone = [session.run(None, feeds) for session in sessions]
    with ThreadPoolExecutor(6) as pool:
        runs = [
            (k, pool.submit(sessions[k].run, None, feeds)) for _ in range(20) for k in range(len(sessions))
        ]
        together = [(k, run.result()) for k, run in runs]

    for values in alone:
        assert_agree([np.asarray(value) for value in values], by_reference(spec, case), case.rtol, op)
    for k, values in together:
        np.testing.assert_array_equal(values[0], alone[k][0])


def test_sessions_outlive_their_options_and_leave_nothing_behind() -> None:
    spec = custom_ops.find("PackSigns")
    case = next(spec.cases())
    content, feeds = one_node(spec, case, function=False).SerializeToString(), dict(fed(spec, case))

    def memory() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096

    def cycle() -> None:
        options = custom_ops.register(ort.SessionOptions())
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(content, options)
        del options
        session.run(None, feeds)

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell how much memory a process has")
    for _ in range(50):
        cycle()
    before = memory()
    for _ in range(300):
        cycle()
    # A kernel or an operator's description kept from each would be a kilobyte and more.
    assert memory() - before < 300 * 4000


def test_registering_through_us_twice_is_once() -> None:
    spec = custom_ops.find("PackSigns")
    case = next(spec.cases())
    options = custom_ops.register(custom_ops.register(ort.SessionOptions()))
    session = ort.InferenceSession(one_node(spec, case, function=False).SerializeToString(), options)
    np.testing.assert_array_equal(session.run(None, dict(fed(spec, case)))[0], by_reference(spec, case)[0])
