"""Fused attention against steps, queries that see nothing, windows, caches; against onnxruntime where it has it."""

import math

import numpy as np
import pytest
import torch

from graphrewrite.bridge.attending import PROBABILITIES, Scores, attended, both, visible
from graphrewrite.bridge.optable.attention import attention
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import bridged, by_onnxruntime, node_model, same


def drawn(heads: int, time: int, size: int = 8) -> torch.Tensor:
    return torch.randn(2, heads, time, size, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("mask", ["none", "causal", "bools", "floats", "keys"])
@pytest.mark.parametrize("shared", [1, 2, 4])
def test_fused_kernels_and_steps_agree_forwards_and_backwards(mask: str, shared: int) -> None:
    torch.manual_seed(0)
    q, k, v = drawn(4, 3), drawn(4 // shared, 5), drawn(4 // shared, 5)
    seen = {
        "bools": torch.rand(2, 1, 3, 5) > 0.4,
        "floats": torch.randn(3, 5, dtype=torch.float64),
        "keys": torch.tensor([True, False, True, True, False]),
    }.get(mask)
    if mask == "bools":
        assert seen is not None
        seen[0, 0, 1] = False  # a query that sees nothing
    slopes, outputs = [], []
    for kept in (None, PROBABILITIES):
        y, _ = attended(q, k, v, seen, Scores(kept=kept), mask == "causal")
        slopes.append(torch.autograd.grad(y.square().sum(), [q, k, v]))
        outputs.append(y)
    torch.testing.assert_close(outputs[0], outputs[1])
    for one, two in zip(*slopes, strict=True):
        assert bool(torch.isfinite(one).all())
        torch.testing.assert_close(one, two)
    if mask == "bools":
        assert bool((outputs[0][0, :, 1] == 0).all())


def test_what_a_query_sees() -> None:
    seen = visible(2, 4, 1, torch.device("cpu"), left=1, right=0)
    assert seen is not None
    assert seen.int().tolist() == [[1, 1, 0, 0], [0, 1, 1, 0]]
    per_batch = visible(1, 3, torch.tensor([0, 2]), torch.device("cpu"), right=0)
    assert per_batch is not None and per_batch.int().tolist() == [[[[1, 0, 0]]], [[[1, 1, 1]]]]
    assert visible(2, 4, 0, torch.device("cpu")) is None


def test_a_short_mask_hides_what_it_lacks() -> None:
    found = both(None, torch.tensor([[1.0, 2.0]]), 3)
    assert found is not None and found.tolist() == [[1.0, 2.0, -math.inf]]
    seen = both(torch.tensor([[True, False, True]]), torch.tensor([[True, True]]), 3)
    assert seen is not None and seen.tolist() == [[True, False, False]]


def test_a_cache_gives_what_the_whole_would_give() -> None:
    """Three tokens, then two more with the first three as their past, against all five at once."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 8)
    q, k, v = (part.transpose(1, 2) for part in (x, x * 2 - 1, x + 1))
    whole = attention(q, k, v, is_causal=1, outputs=1)[0]
    first = attention(q[:, :, :3], k[:, :, :3], v[:, :, :3], is_causal=1, outputs=3)
    then = attention(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], None, first[1], first[2], is_causal=1, outputs=3)
    assert whole is not None and first[0] is not None and then[0] is not None and then[1] is not None
    torch.testing.assert_close(torch.cat((first[0], then[0]), 2), whole)
    assert torch.equal(then[1], k)
    keys, values = (torch.nn.functional.pad(part, (0, 0, 0, 2), value=7.0) for part in (k, v))
    counted = attention(
        q[:, :, 3:], keys, values, None, None, None, torch.tensor([5, 5]), is_causal=1, outputs=1
    )
    assert counted[0] is not None
    torch.testing.assert_close(counted[0], then[0])


@pytest.mark.parametrize(
    "settings",
    [{}, {"scale": 0.3}, {"softcap": 1.5}, {"is_causal": 1}],
    ids=["plain", "scale", "cap", "causal"],
)
@pytest.mark.parametrize("past", [False, True])
def test_against_onnxruntime(settings: dict[str, object], past: bool) -> None:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    given: list[Array | None] = [normal(2, 3, 32), normal(2, 3, 16), normal(2, 3, 16)]
    given += [normal(3, 5), normal(2, 2, 2, 8), normal(2, 2, 2, 8)] if past else []
    proto = node_model(
        "Attention", given, 3 if past else 1, {"q_num_heads": 4, "kv_num_heads": 2, **settings}, opset=23
    )
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_stay_close(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 6, 16) for _ in range(3))
    wanted, _ = attended(q, k, v, None, Scores())
    found, _ = attended(q.to(dtype), k.to(dtype), v.to(dtype), None, Scores())
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), wanted, rtol=0.02, atol=0.02)
