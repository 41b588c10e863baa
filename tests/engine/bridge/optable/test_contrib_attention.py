"""onnxruntime's attention operators against its kernels."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from graphrewrite.bridge.optable.contrib_activations import MICROSOFT
from graphrewrite.bridge.optable.contrib_attention import group_query_attention
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import Given, bridged, by_onnxruntime, node_model, same

RNG = np.random.default_rng(0)
BATCH, TIME, HEADS, SIZE = 2, 4, 2, 8
WIDE = HEADS * SIZE
LARGE = 16  # the least its kernel takes


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def whole(*numbers: int) -> Array:
    return np.asarray(numbers, np.int32)


X = [normal(BATCH, TIME, 6), normal(6, 3 * WIDE), normal(3 * WIDE)]
QKV = [normal(BATCH, TIME, WIDE) for _ in range(3)]
MASK = np.asarray([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)
PAST = [normal(BATCH, HEADS, 3, SIZE) for _ in range(2)]
TWO = {"num_heads": HEADS}

ATTENTION: dict[str, tuple[str, Given, int, Mapping[str, object]]] = {
    "plain": ("Attention", X, 1, TWO),
    "scale": ("Attention", X, 1, {**TWO, "scale": 0.2}),
    "mask": ("Attention", [*X, MASK], 1, TWO),
    "lengths": ("Attention", [*X, whole(3, 2)], 1, TWO),
    "starts": ("Attention", [*X, whole(4, 3, 1, 0)], 1, TWO),
    "causal": ("Attention", X, 1, {**TWO, "unidirectional": 1}),
    "causal_mask": ("Attention", [*X, MASK], 1, {**TWO, "unidirectional": 1}),
    "past": ("Attention", [*X, None, normal(2, BATCH, HEADS, 3, SIZE)], 2, {**TWO, "unidirectional": 1}),
    "bias": ("Attention", [*X, None, None, normal(1, HEADS, TIME, TIME)], 1, TWO),
    "parts": (
        "Attention", [X[0], normal(6, 40), normal(40)], 1, {**TWO, "qkv_hidden_sizes": [16, 16, 8]}
    ),
    "apart": ("MultiHeadAttention", QKV, 1, TWO),
    "apart_bias": ("MultiHeadAttention", [*QKV, normal(3 * WIDE)], 1, TWO),
    "apart_mask": ("MultiHeadAttention", [*QKV, None, MASK], 1, TWO),
    "apart_causal": ("MultiHeadAttention", QKV, 1, {**TWO, "unidirectional": 1}),
    "apart_past": ("MultiHeadAttention", [*QKV, None, None, None, *PAST], 3, TWO),
    "apart_scores": ("MultiHeadAttention", [*QKV, None, None, normal(BATCH, HEADS, TIME, TIME)], 1, TWO),
    "crossed": (
        "MultiHeadAttention", [QKV[0], normal(BATCH, 5, WIDE), normal(BATCH, 5, WIDE)], 1, TWO
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str) -> None:
    op, given, outputs, settings = ATTENTION[name]
    proto = node_model(op, given, outputs, settings, domain=MICROSOFT)
    assert same(bridged(proto, given), by_onnxruntime(proto, given), 1e-4, 1e-5)


def test_packed_inputs_are_those_that_come_apart() -> None:
    """onnxruntime packs on GPUs only."""
    q, k, v = (value.reshape(BATCH, TIME, HEADS, SIZE) for value in QKV)
    wanted = bridged(node_model("MultiHeadAttention", QKV, 1, TWO, domain=MICROSOFT), QKV)
    for given in ([np.stack((q, k, v), 3)], [QKV[0], np.stack((k, v), 3)]):
        proto = node_model("MultiHeadAttention", given, 1, TWO, domain=MICROSOFT)
        assert same(bridged(proto, given), wanted)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", [whole(2), np.asarray([[0, 1, 2, 3], [3, 1, 0, 2]])])
@pytest.mark.parametrize("part", [0, 4])
def test_rotary_embeddings(interleaved: int, positions: Array, part: int) -> None:
    rotary = part or SIZE
    given = [QKV[0], positions.astype(np.int64), normal(9, rotary // 2), normal(9, rotary // 2)]
    settings = {"interleaved": interleaved} | (
        {"num_heads": HEADS, "rotary_embedding_dim": part} if part else {}
    )
    proto = node_model("RotaryEmbedding", given, 1, settings, domain=MICROSOFT)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


def grouped(past: int, new: int, packed: bool, rotary: bool) -> list[Array | None]:
    """Four query heads to two of keys; a past that fills its room up to where the new tokens begin."""
    wide, narrow = 4 * LARGE, 2 * LARGE
    parts: list[Array | None] = [
        normal(BATCH, new, wide),
        normal(BATCH, new, narrow),
        normal(BATCH, new, narrow),
    ]
    if packed:
        parts = [np.concatenate([part for part in parts if part is not None], 2), None, None]
    room = (
        [normal(BATCH, 2, past, LARGE) for _ in range(2)]
        if past
        else [np.zeros((BATCH, 2, 0, LARGE), np.float32)] * 2
    )
    total = past + new
    found = [*parts, *room, np.full(BATCH, total - 1, np.int32), np.asarray(total, np.int32)]
    return found + ([normal(32, LARGE // 2), normal(32, LARGE // 2)] if rotary else [])


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("past", "new"), [(0, 5), (6, 1)])
@pytest.mark.parametrize("settings", [{}, {"local_window_size": 2}, {"softcap": 1.5}, {"scale": 0.4}])
def test_grouped_heads(rotary: bool, packed: bool, past: int, new: int, settings: dict[str, object]) -> None:
    given = grouped(past, new, packed, rotary)
    chosen = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": int(rotary), **settings}
    proto = node_model("GroupQueryAttention", given, 3, chosen, domain=MICROSOFT)
    assert same(bridged(proto, given), by_onnxruntime(proto, given), 1e-4, 1e-5)


def test_samples_of_other_lengths_continue_where_each_ended() -> None:
    given = grouped(6, 1, False, True)
    given[5] = whole(6, 3)
    proto = node_model(
        "GroupQueryAttention", given, 3, {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1}, domain=MICROSOFT
    )
    found, wanted = bridged(proto, given), by_onnxruntime(proto, given)
    assert same(found[:1], wanted[:1], 1e-4, 1e-5)
    assert same([found[1][1, :, :4]], [wanted[1][1, :, :4]], 1e-4, 1e-5)


def test_gradients_reach_the_cache() -> None:
    given = [None if value is None else torch.tensor(value) for value in grouped(3, 1, False, False)]
    past = given[3]
    assert past is not None
    past.requires_grad_()
    query, *others = given[:6]
    assert query is not None and others[4] is not None
    found = group_query_attention(
        query, others[0], others[1], past, others[3], others[4], 4, num_heads=4, kv_num_heads=2
    )
    found[0].square().sum().backward()
    assert past.grad is not None and bool((past.grad != 0).all())


@pytest.mark.parametrize("per_column", [False, True])
def test_quantized_attention(per_column: bool) -> None:
    columns = (3 * WIDE,) if per_column else ()
    given = [
        RNG.integers(0, 256, (BATCH, TIME, 6)).astype(np.uint8),
        RNG.integers(-128, 128, (6, 3 * WIDE)).astype(np.int8),
        normal(3 * WIDE),
        np.asarray(0.01, np.float32),
        np.full(columns, 0.02, np.float32),
        None,
        np.asarray(128, np.uint8),
        np.zeros(columns, np.int8),
    ]
    proto = node_model("QAttention", given, 1, TWO, domain=MICROSOFT)
    assert same(bridged(proto, given), by_onnxruntime(proto, given), 1e-3, 1e-4)


def test_what_has_no_form_is_refused() -> None:
    proto = node_model("Attention", X, 1, {**TWO, "do_rotary": 1}, domain=MICROSOFT)
    with pytest.raises(UnsupportedOp, match="do_rotary"):
        bridged(proto, X)
