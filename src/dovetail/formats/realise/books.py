"""Code books in torch: the value's place in the list, then the choice between two neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail._eager import constant
from dovetail.formats.codebook import CodebookFormat, book_of

__all__ = ["round_by_book"]


def round_by_book(x: Tensor, fmt: CodebookFormat, words: Tensor | None) -> Tensor:
    """Values of any floating dtype, each rounded to one of the list's."""
    values, boundaries, exact = _book_on(fmt, x.device)
    wide, mirrored = x.double(), fmt.mirrored
    v = wide.abs() if mirrored else wide
    negative = wide < 0
    v = v.clamp(values[0], values[-1])
    i = torch.searchsorted(values, v.contiguous(), right=True).clamp(1, values.numel() - 1) - 1
    low, high, boundary = values[i], values[i + 1], boundaries[i]
    away = torch.ones_like(negative) if mirrored else v >= 0
    tie = (exact[i] > 0) & (v == boundary)
    name, odd = fmt.rounding.name, (i & 1) == 1
    if name == "NearestTiesToEven":
        up = (v > boundary) | (tie & odd)
    elif name == "NearestTiesToAway":
        up = (v > boundary) | (tie & away)
    elif name == "TowardZero":
        up = ~away
    elif name in ("TowardPositive", "TowardNegative"):
        up = (away != negative) if name == "TowardPositive" else (away == negative)
    elif name == "ToOdd":
        up = ~odd
    else:
        assert words is not None
        up = _drawn(v, low, high, away, fmt.rounding.bits, words)
    y = torch.where(v == high, high, torch.where((v > low) & up, high, low))
    if mirrored:
        y = torch.where(negative & (y > 0), -y if fmt.signed else 0.0, y)
    return torch.where(wide.isnan(), wide, y).to(x.dtype)


def _drawn(v: Tensor, low: Tensor, high: Tensor, away: Tensor, bits: int, words: Tensor) -> Tensor:
    """Stochastic rounding: the share is a quotient of float64 differences, the rest is exact."""
    share = (v - low) / (high - low)
    share = torch.where(away, share, 1.0 - share)
    one = 1 << (bits + 1)
    outward = torch.floor(share * one) + 2 * (words >> (32 - bits)) + 1 >= one
    return outward == away


_books: dict[tuple[CodebookFormat, torch.device], Tensor] = {}


@constant
def _book_on(fmt: CodebookFormat, device: torch.device) -> Tensor:
    """Values, boundaries and exactness (0 or 1) of a code book as the rows of a float64 tensor."""
    key = (fmt, device)
    if key not in _books:
        book = book_of(fmt)
        rows = (book.values, (*book.boundaries, 0.0), (*map(float, book.exact), 0.0))
        made = torch.tensor(rows, dtype=torch.float64, device=device)
        if type(made) is not Tensor:  # a fake one, while a graph is being traced
            return made
        _books[key] = made
    return _books[key]
