"""Element-wise, reducing and ordering operators in every version and element type their schemas allow."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import product

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx.defs import get_all_schemas_with_history, get_schema

from graphrewrite.bridge.reach import is_floating
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import Given, bridged, by_reference, node_model, same

OLDEST = 7
TYPES: Mapping[str, np.dtype[np.generic]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(bfloat16)": np.dtype(ml_dtypes.bfloat16),
    **{
        f"tensor({name})": np.dtype(name)
        for name in (
            "float16",
            "bool",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
        )  # fmt: skip
    },
}
TWO = ["Add", "Sub", "Mul", "Div", "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less"]
TWO += ["LessOrEqual", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Max", "Min", "Sum", "Mean"]
ONE = ["Abs", "Neg", "Sqrt", "Exp", "Log", "Erf", "Sign", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Tanh"]
ONE += ["Asinh", "Ceil", "Floor", "Round", "Reciprocal", "Not", "IsNaN", "IsInf", "BitwiseNot", "Relu"]
ONE += ["LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Swish", "HardSwish", "HardSigmoid", "Sigmoid"]
ONE += ["Softplus", "Softsign", "Shrink", "ThresholdedRelu", "Identity"]
ONE += ["ArgMax", "ArgMin", "LpNormalization"]
REDUCTIONS = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"]
SETTINGS: Mapping[str, tuple[dict[str, object], ...]] = {
    "Mod": ({"fmod": 0}, {"fmod": 1}),
    "BitShift": ({"direction": "LEFT"}, {"direction": "RIGHT"}),
    "Shrink": ({"lambd": 1.5, "bias": 1.0},),
    "ArgMax": ({"axis": 1}, {"axis": -1, "keepdims": 0}),
    "ArgMin": ({"axis": 0}, {"axis": -1, "keepdims": 0}),
}


def numbers(dtype: np.dtype[np.generic], shape: tuple[int, ...], seed: int, least: int = -4) -> Array:
    """Return numbers of a type, some of them the largest it has where they are whole."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if is_floating(dtype):
        found = (rng.standard_normal(shape) * 2).astype(dtype)
        return np.abs(found) + np.asarray(0.5, dtype) if least >= 0 else found
    found = rng.integers(max(least, np.iinfo(dtype.name).min), 9, shape).astype(dtype)
    every_fifth = found.reshape(-1)[::5]
    every_fifth -= every_fifth + (np.arange(every_fifth.size) % 3 + 1).astype(
        dtype
    )  # -1, -2, -3 or the largest
    return found


def versions(op: str) -> list[int]:
    """Return the versions of an operator that models from operator set 7 on can mean."""
    all_of = sorted(
        {s.since_version for s in get_all_schemas_with_history() if s.name == op and not s.domain}
    )
    held = max((version for version in all_of if version <= OLDEST), default=None)
    return [max(version, OLDEST) for version in all_of if version >= (held or 0)]


def types(op: str, version: int) -> Iterator[np.dtype[np.generic]]:
    """Yield the element types that the first input may have."""
    schema = get_schema(op, version, "")
    allowed = schema.inputs[0].types
    yield from (dtype for name, dtype in TYPES.items() if name in allowed)


def judged(op: str, version: int, given: Given, attributes: Mapping[str, object]) -> str | None:
    """Return what is wrong with a node, "" when the bridge and onnx's evaluator agree, None when that one fails."""
    proto = node_model(op, given, 1, attributes, opset=version)
    first = given[0]
    assert first is not None
    half = first.dtype.itemsize == 2
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            wanted = by_reference(proto, given)
        except Exception:  # whatever it raises, it cannot judge
            return None
        agree = same(bridged(proto, given), wanted, 2e-2 if half else 1e-5, 2e-2 if half else 1e-6)
    return "" if agree else f"version {version}, {first.dtype}, {attributes}"


def everywhere(op: str, make: Callable[[np.dtype[np.generic]], Given]) -> None:
    """Judge an operator in all versions, types and settings, with inputs made for the type."""
    wrong = [
        judged(op, version, make(dtype), settings)
        for version in versions(op)
        for dtype in types(op, version)
        for settings in SETTINGS.get(op, ({},))
    ]
    assert "" in wrong and not any(wrong), list(filter(None, wrong))


@pytest.mark.parametrize("op", ONE)
def test_of_one_input(op: str) -> None:
    everywhere(op, lambda dtype: [numbers(dtype, (3, 4, 5), 0, 0 if op in ("Sqrt", "Log") else -4)])


@pytest.mark.parametrize("op", [*TWO, "Mod"])
def test_of_two_inputs(op: str) -> None:
    everywhere(op, lambda dtype: [numbers(dtype, (3, 4, 5), 0), numbers(dtype, (4, 1), 1, 1)])


def test_shifts_also_beyond_the_type() -> None:
    everywhere(
        "BitShift",
        lambda dtype: [numbers(dtype, (3, 4, 5), 0), np.arange(0, 80, 4).reshape(4, 5).astype(dtype)],
    )


def test_where() -> None:
    for dtype in TYPES.values():
        given = [numbers(np.dtype(bool), (3, 1), 2), numbers(dtype, (3, 4), 0), numbers(dtype, (4,), 1)]
        assert not judged("Where", 16, given, {})


@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
def test_running_sums_and_products(op: str) -> None:
    for version, exclusive, reverse, axis in product(versions(op), (0, 1), (0, 1), (0, -1)):
        for dtype, shape in product(types(op, version), ((3, 4), (2, 0))):
            given = [numbers(dtype, shape, 0), np.asarray(axis, np.int32)]
            assert not judged(op, version, given, {"exclusive": exclusive, "reverse": reverse})


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reductions(kind: str) -> None:
    op, by_input = f"Reduce{kind}", 13 if kind == "Sum" else 18
    for version in versions(op):
        for dtype, shape in product(types(op, version), ((2, 3, 2), (2, 0, 3), ())):
            if kind == "SumSquare" and dtype.itemsize == 4 and dtype.kind in "iu":
                continue  # the evaluator returns int64 for these
            if kind == "Mean" and dtype.kind in "iu" and 0 in shape:
                continue  # undefined
            x = numbers(dtype, shape, 0, 0 if "Log" in kind else -4)
            x = (x % 5).astype(dtype) if dtype.kind in "iu" else x
            for keep, axes in product((0, 1), (None, (), (1,), (0, -1))):
                if axes and not shape:
                    continue
                if version >= by_input:
                    given = [x, None if axes is None else np.asarray(axes, np.int64)]
                    for noop in (0, 1):
                        assert not judged(
                            op, version, given, {"keepdims": keep, "noop_with_empty_axes": noop}
                        )
                elif axes != ():
                    settings: dict[str, object] = {"keepdims": keep}
                    assert not judged(op, version, [x], settings | ({"axes": list(axes)} if axes else {}))


@pytest.mark.parametrize("op", ["Cast", "CastLike"])
def test_casts_between_all_types(op: str) -> None:
    for dtype, wanted in product(TYPES.values(), TYPES.values()):
        x = numbers(dtype, (3, 4), 0)
        x = np.abs(x) if is_floating(dtype) else x
        for version in (versions(op)[0], versions(op)[-1]):
            if op == "Cast":
                to = onnx.helper.np_dtype_to_tensor_dtype(wanted)
                assert not judged(op, version, [x], {"to": to}), wanted
            else:
                assert not judged(op, version, [x, numbers(wanted, (1,), 0)], {}), wanted


def test_powers_of_all_types_by_all_types() -> None:
    for version in versions("Pow"):
        for dtype in types("Pow", version):
            x = numbers(dtype, (3, 4), 0, 1)
            x = (x % 4).astype(dtype) if dtype.kind == "i" else x
            for kind in TYPES.values() if version >= 12 else [dtype]:
                exponent = numbers(kind, (4,), 1, 0)
                exponent = (exponent % 3).astype(kind) if kind.kind in "iu" else exponent
                assert kind.kind == "b" or not judged("Pow", version, [x, exponent], {}), kind


def test_clip_with_and_without_bounds() -> None:
    for version in versions("Clip"):
        for dtype in types("Clip", version):
            x = numbers(dtype, (3, 4), 0)
            for low, high in ((1, 3), (None, 2), (2, None), (None, None)):
                if version >= 11:
                    bounds = [None if bound is None else np.asarray(bound, dtype) for bound in (low, high)]
                    assert not judged("Clip", version, [x, *bounds], {})
                else:
                    named = {"min": low, "max": high}.items()
                    settings = {name: float(bound) for name, bound in named if bound is not None}
                    assert not judged("Clip", version, [x], dict(settings))


def test_prelu_with_slopes_of_all_shapes() -> None:
    for version in versions("PRelu"):
        for dtype in types("PRelu", version):
            x = numbers(dtype, (2, 3, 4, 5), 0)
            for shape in ((3, 1, 1), (1,), (4, 1), (2, 3, 4, 5), ()):
                assert not judged("PRelu", version, [x, numbers(dtype, shape, 1)], {}), shape


def test_the_judge_sees_a_wrong_answer() -> None:
    x = numbers(np.dtype(np.float32), (3, 4), 0)
    proto = node_model("Abs", [x], opset=13)
    assert not same(bridged(proto, [x]), [np.abs(x) + 1e-3])
