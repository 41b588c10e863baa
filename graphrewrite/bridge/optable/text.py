"""Counts of n-grams. Words have numbers here: torch holds no text."""

from collections.abc import Sequence

import torch
from torch import Tensor

from graphrewrite.bridge.forms import op


@op("TfIdfVectorizer", since=9, gradient=False)
def tf_idf(
    x: Tensor,
    *,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    mode: str,
    ngram_counts: Sequence[int],
    ngram_indexes: Sequence[int],
    pool_int64s: Sequence[int],
    weights: Sequence[float] = (),
) -> Tensor:
    """Count the n-grams of a pool in [time] or [batch, time]; their words stand up to `max_skip_count` + 1 apart.

    The pool holds all n-grams of one word, then all of two, and so on; `ngram_counts` says where each length begins,
    `ngram_indexes` where each n-gram is counted. The mode says what becomes of a count: TF leaves it, IDF makes the
    n-gram's weight of it when it is not zero, TFIDF multiplies it with the weight.
    """
    rows = x.reshape(1, -1) if x.dim() < 2 else x
    places = torch.tensor(ngram_indexes, device=x.device)
    counts = x.new_zeros((rows.shape[0], max(ngram_indexes) + 1), dtype=torch.float32)
    first = 0
    for length, start in enumerate(ngram_counts, 1):
        end = ngram_counts[length] if length < len(ngram_counts) else len(pool_int64s)
        grams = torch.tensor(pool_int64s[start:end], dtype=rows.dtype, device=x.device).reshape(-1, length)
        if min_gram_length <= length <= max_gram_length:
            found = _found(rows, grams, 1 if length == 1 else max_skip_count + 1)
            counts = counts.index_add(1, places[first : first + len(grams)], found)
        first += len(grams)
    if mode != "TF" and weights:
        factors = torch.ones_like(counts[0]).index_copy(0, places, torch.tensor(weights, device=x.device))
        counts = counts * factors if mode == "TFIDF" else torch.where(counts > 0, factors, 0.0)
    elif mode == "IDF":
        counts = (counts > 0).float()
    return counts.reshape(-1) if x.dim() < 2 else counts


def _found(rows: Tensor, grams: Tensor, furthest: int) -> Tensor:
    """Return how often each n-gram [grams, length] stands in each row, its words 1 to `furthest` apart."""
    length = grams.shape[1]
    total = rows.new_zeros((rows.shape[0], len(grams)), dtype=torch.float32)
    for step in range(1, furthest + 1):
        reach = (length - 1) * step + 1
        if reach > rows.shape[1] or not len(grams):
            break
        windows = rows.unfold(1, reach, 1)[..., ::step]  # [batch, windows, length]
        same = (windows[:, :, None] == grams).all(-1)
        total = total + same.sum(1)
    return total
