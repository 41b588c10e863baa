"""Attention of onnxruntime's own domain: with its projection, from packed inputs, with grouped heads and a cache.

Masks of zeros and ones hide by adding a large negative number (`mask_filter_value`), as the kernels do; what a causal
mask hides gets nothing.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from graphrewrite.bridge.attending import RAW, Scores, attended, before, both, heads, joined, visible
from graphrewrite.bridge.forms import op
from graphrewrite.bridge.optable.contrib_activations import MICROSOFT
from graphrewrite.errors import UnsupportedOp

_HIDDEN = -10000.0


@op("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(
    x: Tensor,
    positions: Tensor,
    cosines: Tensor,
    sines: Tensor,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Tensor:
    """Turn pairs of each head of [batch, time, hidden] or [batch, heads, time, size] by angles of their position.

    `positions` are [batch, time], or one number that is the position of the first.
    """
    _refuse("RotaryEmbedding", is_packed_batching=is_packed_batching, scale=scale != 1.0)
    flat = x.dim() == 3
    size = rotary_embedding_dim or 2 * cosines.shape[-1]
    apart = heads(x, num_heads or x.shape[-1] // size) if flat else x
    if positions.numel() == 1:
        positions = positions.reshape(1, 1) + torch.arange(apart.shape[2], device=x.device)
    turned = rotated(apart, cosines[positions], sines[positions], size, bool(interleaved))
    return joined(turned) if flat else turned


def rotated(x: Tensor, cosines: Tensor, sines: Tensor, size: int, interleaved: bool) -> Tensor:
    """Turn the first `size` numbers of each head; angles are [batch, time, size / 2].

    Pairs are neighbours (interleaved), or one of the first half with one of the second.
    """
    moving, rest = x[..., :size], x[..., size:]
    cosines, sines = cosines.unsqueeze(1), sines.unsqueeze(1)
    one, two = (moving[..., ::2], moving[..., 1::2]) if interleaved else moving.chunk(2, -1)
    real, imaginary = one * cosines - two * sines, two * cosines + one * sines
    turned = (
        torch.stack((real, imaginary), -1).flatten(-2) if interleaved else torch.cat((real, imaginary), -1)
    )
    return torch.cat((turned, rest), -1) if rest.shape[-1] else turned


@op("Attention", domain=MICROSOFT, ignores=("rotary_embedding_dim",))
def attention(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    scores: Tensor | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = _HIDDEN,
    num_heads: int,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: tuple[int, ...] = (),
    scale: float = 0.0,
    unidirectional: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return attention of x [batch, time, hidden] to itself, and keys and values [2, batch, heads, time, size]."""
    _refuse("Attention", do_rotary=do_rotary, past_present_share_buffer=past_present_share_buffer)
    product = x @ weight
    return _projected(
        product if bias is None else product + bias,
        mask,
        past,
        scores,
        num_heads,
        qkv_hidden_sizes,
        Scores(scale or None),
        bool(unidirectional),
        mask_filter_value,
    )


@op("QAttention", domain=MICROSOFT, gradient=False)
def quantized_attention(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    x_scale: Tensor,
    weight_scale: Tensor,
    mask: Tensor | None = None,
    x_zero: Tensor | None = None,
    weight_zero: Tensor | None = None,
    past: Tensor | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = _HIDDEN,
    num_heads: int,
    past_present_share_buffer: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return the same for a quantized input and weight, whose scale may follow its columns."""
    _refuse("QAttention", do_rotary=do_rotary, past_present_share_buffer=past_present_share_buffer)
    left = x.double() if x_zero is None else x.double() - x_zero.double()
    right = weight.double() if weight_zero is None else weight.double() - weight_zero.double()
    product = (left @ right).to(bias.dtype) * (x_scale * weight_scale) + bias
    return _projected(
        product,
        mask,
        past,
        None,
        num_heads,
        (),
        Scores(scale or None),
        bool(unidirectional),
        mask_filter_value,
    )


@op("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scores: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    past_length: Tensor | None = None,
    beams: Tensor | None = None,
    *,
    mask_filter_value: float = _HIDDEN,
    num_heads: int,
    outputs: int,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> tuple[Tensor | None, ...]:
    """Return attention of queries to keys and values that come apart, packed together, or from a cache."""
    _refuse(
        "MultiHeadAttention",
        past_sequence_length=past_length is not None,
        cache_indirection=beams is not None,
    )
    if query.dim() == 5:  # [batch, time, heads, 3, size]
        q, k, v = (part.transpose(1, 2) for part in query.unbind(3))
    elif key is not None and key.dim() == 5:  # [batch, time, heads, 2, size]
        q = heads(query, num_heads)
        k, v = (part.transpose(1, 2) for part in key.unbind(3))
    else:
        assert key is not None and value is not None
        q, k, v = (heads(part, num_heads) for part in (query, key, value))
    if bias is not None:
        wide, narrow = q.shape[1] * q.shape[3], v.shape[1] * v.shape[3]
        parts = (part.reshape(num_heads, 1, -1) for part in bias.split((wide, wide, narrow)))
        q, k, v = (x + part for x, part in zip((q, k, v), parts, strict=True))
    k, v = before(past_key, k), before(past_value, v)
    kept = RAW if outputs > 3 else None
    hidden = _combined(q, k, mask, scores, bool(unidirectional), mask_filter_value)
    y, seen = attended(q, k, v, hidden, Scores(scale or None, kept=kept))
    return joined(y), k, v, seen


@op("GroupQueryAttention", domain=MICROSOFT, host=("total",))
def group_query_attention(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    lengths: Tensor,
    total: int | tuple[int, ...],
    cosines: Tensor | None = None,
    sines: Tensor | None = None,
    positions: Tensor | None = None,
    scores: Tensor | None = None,
    sinks: Tensor | None = None,
    *,
    do_rotary: int = 0,
    kv_num_heads: int,
    local_window_size: int = -1,
    num_heads: int,
    qk_output: int = 0,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
    smooth_softmax: int = 0,
    softcap: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return causal attention with a cache, and keys and values [batch, heads, time, size] with what is new.

    `lengths` are the last positions of each sample; `total` is how long the longest of all is, with its past.
    """
    _refuse(
        "GroupQueryAttention",
        smooth_softmax=smooth_softmax > 0,
        qk_output=qk_output,
        head_sink=sinks is not None,
    )
    longest = total[0] if isinstance(total, tuple) else total
    if key is None or value is None:
        sizes = [
            count * (query.shape[2] // (num_heads + 2 * kv_num_heads)) for count in (num_heads, kv_num_heads)
        ]
        query, key, value = query.split((sizes[0], sizes[1], sizes[1]), -1)
    q, k, v = heads(query, num_heads), heads(key, kv_num_heads), heads(value, kv_num_heads)
    new = q.shape[2]
    first = lengths.reshape(-1).long() * 0 if new == longest else lengths.reshape(-1).long() + 1 - new
    places = first[:, None] + torch.arange(new, device=q.device)
    if do_rotary:
        assert cosines is not None and sines is not None
        at = places if positions is None else positions
        size = 2 * cosines.shape[-1]
        q, k = (rotated(x, cosines[at], sines[at], size, bool(rotary_interleaved)) for x in (q, k))
    k, v = _cached(past_key, k, places, longest), _cached(past_value, v, places, longest)
    seen = visible(new, k.shape[2], first, q.device, left=max(local_window_size - 1, -1), right=0)
    y, _ = attended(q, k, v, both(seen, scores, k.shape[2]), Scores(scale or None, softcap))
    return joined(y), k, v


def _refuse(op: str, **settings: object) -> None:
    asked = [name for name, value in settings.items() if value]
    if asked:
        raise UnsupportedOp(
            f"{op} with {asked[0]} has no torch form; expected it without; write that part as nodes of its own, or "
            "train the model as it was before it was fused"
        )


def _cached(past: Tensor | None, new: Tensor, places: Tensor, longest: int) -> Tensor:
    """Return a cache [batch, heads, time, size] with what is new at its places; a longer one keeps its length."""
    held = 0 if past is None else past.shape[2]
    if not held:
        return new
    assert past is not None
    room = functional.pad(past, (0, 0, 0, max(longest - held, 0)))
    return room.scatter(2, places[:, None, :, None].expand_as(new), new)


def _projected(
    product: Tensor,
    mask: Tensor | None,
    past: Tensor | None,
    scores: Tensor | None,
    num_heads: int,
    sizes: tuple[int, ...],
    how: Scores,
    causal: bool,
    filtered: float,
) -> tuple[Tensor, Tensor]:
    """Attend with queries, keys and values side by side in one tensor."""
    parts = product.split(sizes or product.shape[-1] // 3, -1)
    q, k, v = (heads(part, num_heads) for part in parts)
    if past is not None:
        k, v = before(past[0], k), before(past[1], v)
    y, _ = attended(q, k, v, _combined(q, k, mask, scores, causal, filtered), how)
    return joined(y), torch.stack((k, v)) if k.shape == v.shape else k


def _combined(
    q: Tensor, k: Tensor, mask: Tensor | None, scores: Tensor | None, causal: bool, filtered: float
) -> Tensor | None:
    """Return all that is added to the scores: what the mask hides, a bias, and what lies behind a query."""
    queries, keys = q.shape[2], k.shape[2]
    added = scores
    if mask is not None:
        hidden = torch.where(_shown(mask, q.shape[0], keys), 0.0, filtered).to(q.dtype)
        added = hidden if added is None else hidden + added
    seen = visible(queries, keys, keys - queries, q.device, right=0) if causal else None
    if seen is None or added is None:
        return added if seen is None else seen
    return torch.where(seen, added, -math.inf)


def _shown(mask: Tensor, batch: int, keys: int) -> Tensor:
    """Return which keys a mask shows: lengths [batch], [batch, keys], or [batch, queries, keys].

    Lengths may come with starts behind them ([2 * batch]: end and start) or with sums ([3 * batch + 2]).
    """
    at = torch.arange(keys, device=mask.device)
    if mask.dim() == 1:
        ends = mask[:batch].reshape(-1, 1, 1, 1)
        shown = at < ends
        return shown & (at >= mask[batch:].reshape(-1, 1, 1, 1)) if mask.shape[0] == 2 * batch else shown
    if mask.dim() == 2:
        return (mask > 0)[:, None, None]
    return (mask > 0)[:, None] if mask.dim() == 3 else mask > 0
