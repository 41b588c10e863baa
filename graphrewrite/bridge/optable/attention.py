"""Attention of the default domain; the functions that define its relatives are good enough as they are."""

import torch
from torch import Tensor

from graphrewrite.bridge.attending import Scores, attended, before, both, heads, joined, visible
from graphrewrite.bridge.forms import op
from graphrewrite.bridge.numbers import torch_type


@op("Attention", since=23)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    outputs: int,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
) -> tuple[Tensor | None, ...]:
    """Return the attended values, keys and values with those of the past, and the scores.

    `lengths` [batch] says how many keys count, when keys hold a whole cache; queries then stand at the end of these.
    """
    flat = q.dim() == 3
    q, k, v = heads(q, q_num_heads), heads(k, kv_num_heads), heads(v, kv_num_heads)
    past = 0 if past_key is None else past_key.shape[2]
    k, v = before(past_key, k), before(past_value, v)
    queries, keys = q.shape[2], k.shape[2]
    right = 0 if is_causal else right_window_size
    plain = bool(is_causal) and mask is None and lengths is None and not past and left_window_size < 0
    seen = None
    if not plain:
        offset = past if lengths is None else lengths.reshape(-1) - queries
        seen = visible(queries, keys, offset, q.device, left=left_window_size, right=right)
        if lengths is not None:
            counted = torch.arange(keys, device=q.device) < lengths.reshape(-1, 1, 1, 1)
            seen = counted if seen is None else seen & counted
    precision = None if softmax_precision is None else torch_type(softmax_precision)
    scores = Scores(scale, softcap, precision, qk_matmul_output_mode if outputs > 3 else None)
    y, kept = attended(q, k, v, both(seen, mask, keys), scores, plain)
    return joined(y) if flat else y, k, v, kept
