"""Counts of runs of integers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.errors import DovetailError, unknown


@operator("TfIdfVectorizer", 9)
def tf_idf(
    x: Tensor,
    *,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    mode: str,
    ngram_counts: Sequence[int],
    ngram_indexes: Sequence[int],
    pool_int64s: Sequence[int] = (),
    weights: Sequence[float] | None = None,
) -> Tensor:
    """How often each n-gram of the pool is in a row, its items up to some places apart."""
    if mode not in ("TF", "IDF", "TFIDF"):
        raise unknown("mode", mode, ["TF", "IDF", "TFIDF"])
    if not pool_int64s:
        raise DovetailError("a pool of text has no torch counterpart; pool_int64s has")
    columns: dict[tuple[int, ...], int] = {}
    ends = [*ngram_counts[1:], len(pool_int64s)]
    for n, (start, end) in enumerate(zip(ngram_counts, ends, strict=True), 1):
        for at in range(start, end, n):
            columns[tuple(pool_int64s[at : at + n])] = len(columns)
    rows = x.reshape(1, -1) if x.dim() == 1 else x
    counts = torch.zeros(rows.shape[0], max(ngram_indexes) + 1)
    for row, items in enumerate(rows.tolist()):
        for n in range(min_gram_length, max_gram_length + 1):
            for step in range(1, (max_skip_count if n > 1 else 0) + 2):
                for at in range(len(items) - (n - 1) * step):
                    column = columns.get(tuple(items[at : at + (n - 1) * step + 1 : step]))
                    if column is not None:
                        counts[row, ngram_indexes[column]] += 1
    if mode != "TF":
        scale = torch.ones(counts.shape[1])
        if weights is not None:
            scale[torch.tensor(list(ngram_indexes))] = torch.tensor(list(weights))
        counts = (counts > 0) * scale if mode == "IDF" else counts * scale
    return counts[0] if x.dim() == 1 else counts
