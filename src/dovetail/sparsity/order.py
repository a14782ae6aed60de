"""Which scores are largest, exactly: the one rule that every mask is chosen by.

Of equal scores the earlier one counts as larger; -0 equals 0; NaN counts as larger than infinity,
so that what is not a number stays where it can be seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["largest"]

_COMPARED = 16  # up to this length, comparing each pair is faster than selecting


def largest(scores: Tensor, count: int) -> Tensor:
    """A mask of ``scores``' shape with ``count`` ones along its last axis: the largest scores.

    >>> largest(torch.tensor([3.0, 1.0, 3.0, float("nan")]), 2).int()
    tensor([1, 0, 0, 1], dtype=torch.int32)
    """
    length = scores.shape[-1] if scores.dim() else 1
    if count <= 0 or count >= length:
        return torch.full_like(scores, count > 0, dtype=torch.bool)
    ranked = _ranked(scores)
    return _by_pairs(ranked, count) if length <= _COMPARED else _by_threshold(ranked, count)


def _ranked(scores: Tensor) -> Tensor:
    """Integers in the order of the scores."""
    wide = scores if scores.dtype == torch.float64 else scores.to(torch.float32)
    whole = torch.int64 if wide.dtype == torch.float64 else torch.int32
    bits = (wide + 0.0).contiguous().view(whole)  # -0 + 0 is +0
    top = torch.iinfo(whole).max
    # Below zero a larger magnitude is a smaller number: all bits but the sign's are turned.
    ordered = torch.where(bits < 0, bits ^ top, bits)
    return torch.where(torch.isnan(wide), torch.full_like(ordered, top), ordered)


def _by_pairs(ranked: Tensor, count: int) -> Tensor:
    """Kept is what fewer than ``count`` others are larger than."""
    columns = ranked.unbind(-1)
    larger = [torch.zeros_like(columns[0], dtype=torch.int8) for _ in columns]
    for i, one in enumerate(columns):
        for j in range(i + 1, len(columns)):
            later = columns[j] > one
            larger[i] += later
            larger[j] += ~later
    return torch.stack(larger, -1) < count


def _by_threshold(ranked: Tensor, count: int) -> Tensor:
    """Kept is what exceeds the ``count``-th largest, and of its equals the first ones."""
    place = ranked.shape[-1] - count + 1
    bound = ranked.kthvalue(place, dim=-1, keepdim=True).values
    above, equal = ranked > bound, ranked == bound
    wanted = count - above.sum(-1, keepdim=True)
    return above | (equal & (equal.cumsum(-1) <= wanted))
