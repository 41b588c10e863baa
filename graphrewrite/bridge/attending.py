"""Scaled dot-product attention with everything graphs ask of it; what the attention operators share.

Queries, keys and values are [batch, heads, time, size]; several query heads may share one head of keys and values.
torch's fused kernels are used wherever they mean the same: single or double precision, no caps on the scores, nobody
reads the scores. Half types are computed step by step, rounding where the operator's definition rounds; under autocast
inputs are single and the fused kernels do what they do.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_FUSED = (torch.float32, torch.float64)
RAW, CAPPED, BIASED, PROBABILITIES = range(4)


@dataclass(frozen=True)
class Scores:
    """What becomes of q @ k: its factor (None: 1 / sqrt(size)), its cap, the softmax's type, and what is handed out.

    `kept` is RAW, CAPPED, BIASED (cap and mask) or PROBABILITIES, None when nobody reads any of them.
    """

    scale: float | None = None
    cap: float = 0.0
    precision: torch.dtype | None = None
    kept: int | None = None


def heads(x: Tensor, count: int | None) -> Tensor:
    """Return [batch, time, count * size] as [batch, count, time, size]; four axes stay as they are."""
    return x if x.dim() == 4 or count is None else x.unflatten(-1, (count, -1)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """Return [batch, heads, time, size] as [batch, time, heads * size]."""
    return x.transpose(1, 2).flatten(2)


def repeated(x: Tensor, count: int) -> Tensor:
    """Return keys or values with each head repeated for the query heads it serves."""
    return x if x.shape[1] == count else x.repeat_interleave(count // x.shape[1], 1)


def before(*paired: Tensor | None) -> Tensor:
    """Return what came before and what is new along time."""
    parts = [part for part in paired if part is not None]
    return torch.cat(parts, 2) if len(parts) > 1 else parts[0]


def visible(
    queries: int,
    keys: int,
    offset: Tensor | int,
    device: torch.device,
    *,
    left: int = -1,
    right: int = -1,
) -> Tensor | None:
    """Tell which keys each query sees: none more than `left` before it or `right` behind it; -1 is no limit.

    Query i stands at i + offset among the keys; an offset for each of the batch gives [batch, 1, queries, keys].
    """
    if left < 0 and right < 0:
        return None
    at = torch.arange(queries, device=device)[:, None]
    at = at + (offset.reshape(-1, 1, 1, 1) if isinstance(offset, Tensor) else offset)
    ahead = torch.arange(keys, device=device) - at
    seen = torch.ones_like(ahead, dtype=torch.bool)
    if right >= 0:
        seen = seen & (ahead <= right)
    return seen & (-ahead <= left) if left >= 0 else seen


def both(seen: Tensor | None, mask: Tensor | None, keys: int) -> Tensor | None:
    """Return what both let through: bools, or floats to add where `mask` is one; a short mask hides what it lacks."""
    if mask is not None and mask.shape[-1] < keys:
        mask = functional.pad(
            mask, (0, keys - mask.shape[-1]), value=False if mask.dtype == torch.bool else -math.inf
        )
    if seen is None or mask is None:
        return mask if seen is None else seen
    return seen & mask if mask.dtype == torch.bool else torch.where(seen, mask, -math.inf)


def attended(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scores: Scores, causal: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return the mean of values by how well keys fit the queries, and the scores if they are kept.

    A query that sees nothing gets zeros. `mask` is of bools (True: seen) or added; `causal` hides keys behind the query
    and is given without a mask.
    """
    k, v = repeated(k, q.shape[1]), repeated(v, q.shape[1])
    if q.dtype in _FUSED and not scores.cap and scores.precision in (None, q.dtype) and scores.kept is None:
        wide = mask if mask is None or mask.dim() > 1 else mask[None]
        found = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=wide, is_causal=causal, scale=scores.scale
        )
        return found, None
    if causal:
        mask = visible(q.shape[2], k.shape[2], 0, q.device, right=0)
    return _stepwise(q, k, v, mask, scores)


def _stepwise(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scores: Scores
) -> tuple[Tensor, Tensor | None]:
    scale = 1 / math.sqrt(q.shape[-1]) if scores.scale is None else scores.scale
    root = torch.tensor(math.sqrt(scale), dtype=q.dtype, device=q.device)
    raw = torch.matmul(q * root, k.transpose(2, 3) * root)
    capped = scores.cap * torch.tanh(raw / scores.cap) if scores.cap else raw
    bias = mask
    if mask is not None and mask.dtype == torch.bool:
        bias = torch.where(mask, 0.0, -math.inf).to(q.dtype)
    biased = capped if bias is None else capped + bias.to(q.dtype)
    chances = probabilities(biased.to(scores.precision or q.dtype))
    if bias is not None:
        chances = torch.where(bias.amax(-1, keepdim=True) == -math.inf, 0.0, chances)
    chances = chances.to(q.dtype)
    kept = None if scores.kept is None else (raw, capped, biased, chances)[scores.kept]
    return torch.matmul(chances, v), kept


def probabilities(x: Tensor) -> Tensor:
    """Return the softmax of the last axis; zeros where all are minus infinity."""
    largest = x.detach().amax(-1, keepdim=True)
    grown = torch.exp(x - torch.where(largest == -math.inf, 0.0, largest))
    total = grown.sum(-1, keepdim=True)
    return grown / torch.where(total == 0, 1.0, total)
