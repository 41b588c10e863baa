"""Every operator means one thing: its numpy form, function body, torch form and kernels agree on all its cases."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from graphrewrite import custom_ops
from graphrewrite.custom_ops import Case, OpSpec
from graphrewrite.custom_ops.spec import OLDEST_OPSET
from tests.support.kernels import (
    assert_agree,
    by_body,
    by_kernel,
    by_reference,
    fed,
    isas,
    needs_library,
    one_node,
)

ALL = [(spec, case) for spec in custom_ops.ops().values() for case in spec.cases()]
IDS = [f"{spec.name}-{case.name}" for spec, case in ALL]
each_case = pytest.mark.parametrize(("spec", "case"), ALL, ids=IDS)
each_op = pytest.mark.parametrize("spec", custom_ops.ops().values(), ids=custom_ops.ops())


def test_where_there_is_a_compiler_there_are_kernels() -> None:
    """A kernel that does not compile must not hide behind the pure wheel that is made instead."""
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        pytest.skip("no C++ compiler on this machine")
    assert custom_ops.available()


@each_op
def test_an_operator_lists_cases(spec: OpSpec) -> None:
    cases = list(spec.cases())
    assert len(cases) >= 5
    assert len({case.name for case in cases}) == len(cases)


@each_case
def test_body(spec: OpSpec, case: Case) -> None:
    assert_agree(by_body(spec, case), by_reference(spec, case), case.rtol, "function body")


@each_op
def test_body_in_every_operator_set(spec: OpSpec) -> None:
    case = next(spec.cases())
    wanted = by_reference(spec, case)
    for opset in range(OLDEST_OPSET, min(onnx.defs.onnx_opset_version(), 24) + 1):
        ranks = [value.ndim for value in wanted]
        onnx.checker.check_model(one_node(spec, case, opset, ranks=ranks), full_check=True)
        assert_agree(by_body(spec, case, opset), wanted, case.rtol, f"operator set {opset}")


@each_op
def test_body_in_the_reference_evaluator(spec: OpSpec) -> None:
    case = next(spec.cases())
    values = ReferenceEvaluator(one_node(spec, case)).run(None, dict(fed(spec, case)))
    assert_agree([np.asarray(v) for v in values], by_reference(spec, case), case.rtol, "reference evaluator")


@each_case
def test_torch(spec: OpSpec, case: Case) -> None:
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(np.array(case.inputs[port.name])) for port in spec.inputs]
    found = spec.torch_impl(*tensors, **spec.filled(case.attributes))
    values = [v.detach().numpy() for v in (found if isinstance(found, tuple) else (found,))]
    assert_agree(values, by_reference(spec, case), case.rtol, "torch")


@needs_library
@each_case
def test_kernels(spec: OpSpec, case: Case) -> None:
    wanted = by_reference(spec, case)
    for isa in isas():
        for threads in (1, 4):
            assert_agree(by_kernel(spec, case, isa, threads), wanted, case.rtol, f"{isa}, {threads} threads")


@needs_library
def test_there_is_a_kernel_for_every_operator() -> None:
    for spec in custom_ops.ops().values():
        by_kernel(spec, next(spec.cases()))


@pytest.mark.parametrize("rtol", [0.0, 1e-5])
def test_a_wrong_answer_would_be_seen(rtol: float) -> None:
    spec = custom_ops.find("PackSigns")
    case = dataclasses.replace(next(spec.cases()), rtol=rtol)
    wanted = by_reference(spec, case)
    with pytest.raises(AssertionError):
        assert_agree([np.bitwise_xor(wanted[0].astype(np.uint32), np.uint32(1))], wanted, rtol, "one bit")
