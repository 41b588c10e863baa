"""Changes of type at the ends of the types."""

import ml_dtypes
import numpy as np
import pytest
import torch
from onnx import numpy_helper

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.optable.cast import narrowed, powers_of_two, to_type_of
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Array, Model
from tests.engine.bridge.nodes import bridged, node_model

NUMBERS = {"float8_e4m3fn": 17, "float8_e4m3fnuz": 18, "float8_e5m2": 19, "float8_e5m2fnuz": 20}
NUMBERS |= {"uint4": 21, "int4": 22, "uint2": 25, "int2": 26}
MIDDLE = np.asarray([0.25, 0.3, 0.375, 0.74, 0.75, 1, 1.4, 1.5, 3, 1e-30, 1.7e38, 2.0**-126], np.float32)


def cast(x: Array, to: str, saturate: int = 1) -> Array:
    proto = node_model("Cast", [x], 1, {"to": NUMBERS[to], "saturate": saturate}, opset=25)
    proto.graph.output[0].type.tensor_type.elem_type = NUMBERS[to]
    (found,) = bridged(proto, [x])
    return found


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("to", [name for name in NUMBERS if "float" in name])
def test_casts_to_eight_bits_at_the_ends(to: str, saturate: int) -> None:
    ends = [0.0, 1e-9, 240, 241, 247.9, 248, 448, 463, 464, 464.1, 57344, 61439, 61440, np.inf, np.nan]
    x = np.asarray([*ends, *(-value for value in ends[1:-1])], np.float32)
    dtype = np.dtype(getattr(ml_dtypes, to))
    wanted = x.astype(dtype).astype(np.float32)
    if saturate:
        largest = torch.finfo(getattr(torch, to)).max
        wanted = np.where(np.isnan(x), np.nan, np.clip(x, -largest, largest).astype(dtype).astype(np.float32))
    found = cast(x, to, saturate)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.astype(np.float32), wanted)
    held = torch.zeros(0, dtype=getattr(torch, to))
    same = to_type_of(torch.from_numpy(x), held, saturate=bool(saturate))
    assert torch.equal(
        same.view(torch.uint8),
        narrowed(torch.from_numpy(x), same.dtype, saturate=bool(saturate)).view(torch.uint8),
    )


@pytest.mark.parametrize(
    ("to", "bits", "low"), [("int4", 4, -8), ("uint4", 4, 0), ("int2", 2, -2), ("uint2", 2, 0)]
)
def test_casts_below_a_byte_lose_the_higher_bits(to: str, bits: int, low: int) -> None:
    x = np.arange(-20, 20).astype(np.float32)
    found = cast(x, to)
    assert found.dtype == np.dtype(getattr(ml_dtypes, to))
    assert found.astype(int).tolist() == [(int(value) - low) % 2**bits + low for value in x]


@pytest.mark.parametrize("rounding", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [False, True])
def test_casts_to_powers_of_two_round_as_onnx_rounds(rounding: str, saturate: bool) -> None:
    found = powers_of_two(torch.from_numpy(MIDDLE), saturate=saturate, rounding=rounding).float().numpy()
    wanted = numpy_helper.to_float8e8m0(MIDDLE, saturate, rounding).astype(np.float32)
    np.testing.assert_array_equal(found, wanted)


def test_casts_to_powers_of_two_at_the_ends() -> None:
    x = torch.tensor([0.0, 1e-45, torch.inf, torch.nan, 3.4e38])
    smallest, largest = 2.0**-127, 2.0**127
    found = powers_of_two(x, saturate=True, rounding="up").float()
    assert found[[0, 1, 2, 4]].tolist() == [smallest, smallest, largest, largest] and bool(found[3].isnan())
    assert bool(powers_of_two(x, saturate=False, rounding="nearest").float().isnan().all())


def test_types_that_torch_has_not_are_refused_by_name() -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(UnsupportedOp, match="FLOAT4E2M1"):
        GraphModule(Model.from_proto(node_model("Cast", [x], 1, {"to": 23}, opset=25)))
