"""Wavelet and Hadamard layers: when they are the identity, what they refuse, gradients, the size of a file."""

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from graphrewrite import custom_ops
from graphrewrite.custom_ops import Case, OpSpec
from graphrewrite.ir import Array
from graphrewrite.passes.factor.wavelets import coefficients, filters
from tests.support.kernels import assert_agree, by_body, by_kernel, isas, needs_library, one_node, started

WAVELET = custom_ops.find("WaveletLinear")
HADAMARD = custom_ops.find("HadamardLinear")


def wavelet_case(size: int = 37, taps: int = 6, levels: int = 4, **changed: Array) -> Case:
    """A layer that is the identity."""
    count = coefficients(size, taps, levels)
    analysis, synthesis = filters("haar", taps)
    ones, zeros = np.ones(size, np.float32), np.zeros(size, np.float32)
    inputs: dict[str, Array] = {
        "x": np.random.default_rng(0).standard_normal((3, size)).astype(np.float32),
        "before": ones,
        "analysis": analysis.astype(np.float32),
        "permutation": np.arange(count),
        "middle": np.ones(count, np.float32),
        "synthesis": synthesis.astype(np.float32),
        "after": ones,
        "bias": zeros,
    }
    return Case("identity", {**inputs, **changed}, {"size": size, "levels": levels}, rtol=1e-6)


def hadamard_case(size: int = 32, **changed: Array) -> Case:
    """A layer that is the identity."""
    ones = np.ones(size, np.float32)
    inputs: dict[str, Array] = {
        "x": np.random.default_rng(0).standard_normal((3, size)).astype(np.float32),
        "before": ones,
        "permutation": np.arange(size),
        "middle": ones,
        "after": ones,
        "bias": np.zeros(size, np.float32),
    }
    return Case("identity", {**inputs, **changed}, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 37, 64, 100])
@pytest.mark.parametrize("taps", [2, 6])
def test_filters_that_undo_each_other_make_the_identity(size: int, taps: int) -> None:
    case = wavelet_case(size, taps)

    assert_agree(by_body(WAVELET, case), [case.inputs["x"]], 1e-6, "body")
    for isa in isas():
        assert_agree(by_kernel(WAVELET, case, isa), [case.inputs["x"]], 1e-6, isa)


@pytest.mark.parametrize("size", [1, 2, 64, 512])
def test_two_hadamard_transforms_make_the_identity(size: int) -> None:
    case = hadamard_case(size)

    assert_agree(by_body(HADAMARD, case), [case.inputs["x"]], 1e-6, "body")
    for isa in isas():
        assert_agree(by_kernel(HADAMARD, case, isa), [case.inputs["x"]], 1e-6, isa)


def test_one_number_reaches_all_others_with_the_signs_of_hadamard() -> None:
    middle = np.zeros(4, np.float32)
    middle[3] = 4  # the last row of the matrix is + - - +
    case = hadamard_case(4, middle=middle, x=np.array([[1, 0, 0, 0]], np.float32))

    assert by_body(HADAMARD, case)[0].tolist() == [[1, -1, -1, 1]]


def _wavelet(attributes: dict[str, int] | None = None, **changed: Array) -> tuple[OpSpec, Case]:
    case = wavelet_case(**changed)  # type: ignore[arg-type]
    return WAVELET, dataclasses.replace(case, attributes={**case.attributes, **(attributes or {})})


def _hadamard(**changed: Array) -> tuple[OpSpec, Case]:
    return HADAMARD, hadamard_case(**changed)  # type: ignore[arg-type]


def ones(count: int) -> Array:
    return np.ones(count, np.float32)


def with_one(values: Array, value: float) -> Array:
    changed = values.copy()
    changed[-1] = value
    return changed


@needs_library
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _wavelet({"size": 0}), "size is 0"),
        (lambda: _wavelet({"size": -5}), "size is -5"),
        (lambda: _wavelet({"size": 1 << 40}), "expected 0 to"),
        (lambda: _wavelet({"levels": 0}), "levels 0"),
        (lambda: _wavelet({"levels": 1 << 50}), "expected 0 to 64"),
        (lambda: _wavelet({"levels": 3}), "expected .*, the coefficients of 37 values"),
        (lambda: _wavelet({"size": 36}), "before has 37 numbers .* expected 1 to 36"),
        (lambda: _wavelet(before=ones(38)), "before has 38 numbers"),
        (lambda: _wavelet(before=ones(0), x=np.ones((2, 0), np.float32)), "before has 0 numbers"),
        (lambda: _wavelet(after=ones(36)), "bias has 37 numbers, after 36"),
        (
            lambda: _wavelet(after=np.ones((1, 37), np.float32)),
            r"after has shape \[1, 37\]; expected one axis",
        ),
        (lambda: _wavelet(analysis=np.ones((2, 5), np.float32)), "synthesis has shape .* expected the same"),
        (lambda: _wavelet(analysis=np.ones((1, 6), np.float32)), r"analysis has shape \[1, 6\]"),
        (lambda: _wavelet(analysis=np.ones((2, 1), np.float32)), "2 to 1024 taps"),
        (lambda: _wavelet(middle=ones(7)), "middle has 7 numbers"),
        (
            lambda: _wavelet(permutation=with_one(np.arange(coefficients(37, 6, 4)), -1)),
            "is -1; expected 0 to",
        ),
        (lambda: _wavelet(permutation=with_one(np.arange(coefficients(37, 6, 4)), 1 << 40)), "expected 0 to"),
        (lambda: _wavelet(before=with_one(ones(37), np.nan)), r"before\[36\] is not finite"),
        (lambda: _wavelet(middle=with_one(ones(coefficients(37, 6, 4)), np.inf)), "middle.* is not finite"),
        (lambda: _wavelet(x=np.ones((3, 36), np.float32)), r"x has shape \[3, 36\]; expected \[\.\.\., 37\]"),
        (lambda: _hadamard(middle=ones(31)), "middle has 31 numbers; expected a power of two"),
        (lambda: _hadamard(middle=ones(0)), "middle has 0 numbers; expected a power of two"),
        (lambda: _hadamard(middle=ones(16)), "permutation has 32 numbers, middle 16"),
        (lambda: _hadamard(before=ones(33)), "before has 33 numbers"),
        (lambda: _hadamard(bias=ones(1)), "bias has 1 numbers, after 32"),
        (lambda: _hadamard(permutation=with_one(np.arange(32), 32)), "is 32; expected 0 to 31"),
        (lambda: _hadamard(after=with_one(ones(32), -np.inf)), r"after\[31\] is not finite"),
        (lambda: _hadamard(x=np.ones((2, 31), np.float32)), r"expected \[\.\.\., 32\]"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    make: Callable[[], tuple[OpSpec, Case]], message: str
) -> None:
    spec, case = make()
    with pytest.raises(Exception, match=message) as caught:
        by_kernel(spec, case)
    assert "the_node" in str(caught.value)


@needs_library
def test_constants_must_be_constant() -> None:
    with pytest.raises(Exception, match="permutation"):
        started(one_node(HADAMARD, hadamard_case(), run_time=["permutation"], function=False), kernels=True)


@needs_library
def test_the_library_says_how_wide_the_output_is() -> None:
    case = hadamard_case(32, after=ones(20), bias=ones(20))

    model = one_node(HADAMARD, case, function=False, ranks=[2])
    for size, value in zip(model.graph.input[0].type.tensor_type.shape.dim, ("N", 32), strict=True):
        setattr(size, "dim_param" if isinstance(value, str) else "dim_value", value)
    session = started(model, kernels=True)

    assert session.get_outputs()[0].shape == ["N", 20]


@pytest.mark.parametrize(("spec", "case"), [(WAVELET, wavelet_case(20)), (HADAMARD, hadamard_case(16))])
def test_gradients_reach_every_float(spec: OpSpec, case: Case) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    tensors = []
    for port in spec.inputs:
        value = np.asarray(case.inputs[port.name])
        if port.type == "float":
            moved = value.astype(np.float64) + 0.1 * rng.standard_normal(value.shape)
            tensors.append(torch.tensor(moved, requires_grad=True))
        else:
            tensors.append(torch.from_numpy(value))

    assert torch.autograd.gradcheck(lambda *given: spec.torch_impl(*given, **case.attributes), tensors)


@pytest.mark.parametrize(("spec", "case"), [(WAVELET, wavelet_case(512)), (HADAMARD, hadamard_case(512))])
def test_a_file_holds_the_product_and_not_the_matrix(spec: OpSpec, case: Case) -> None:
    model = one_node(spec, case)

    assert sum(len(tensor.raw_data) for tensor in model.graph.initializer) < 512 * 512 * 4 / 40
    assert model.ByteSize() < 512 * 512 * 4 / 25
    onnx.checker.check_model(one_node(spec, case, ranks=[2]), full_check=True)
