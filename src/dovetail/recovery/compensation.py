"""Rounding errors made up for by the weights still to be rounded (GPTQ, SparseGPT).

With ``H = X^T X`` over a layer's inputs and ``U`` the upper triangular matrix with
``U^T U = H^-1``, rounding column ``j`` of a weight by ``e`` costs least when every later column
``k`` changes by ``-e U[j, k] / U[j, j]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.recovery.columns import Columns

__all__ = ["Layout", "compensate", "inverse_factor", "layout_of"]


@dataclass(frozen=True)
class Layout:
    """In which order the columns of ``weight.flatten(1)`` are rounded.

    ``shares`` and ``runs`` are where, in that order, columns begin that share scales or of which
    sparsity keeps so many; neither is ever divided. ``places`` is each column's place in the weight
    with the axis of blocks last.
    """

    order: Tensor
    places: Tensor
    shares: tuple[int, ...]
    runs: tuple[int, ...]
    cuts: tuple[int, ...]


def layout_of(
    shape: Sequence[int], share: int, run: int, size: Tensor, act_order: bool
) -> Layout | None:
    """The layout of a weight ``[N, C, *kernel]`` with runs of ``share`` and of ``run`` along ``C``
    that stay together; ``size [K]`` is the columns' mean square. ``None`` if one kind of run does
    not divide the other.

    >>> size = torch.tensor([1.0, 2.0, 4.0, 3.0])
    >>> layout_of((1, 4), 2, 1, size, True).order.tolist()
    [2, 3, 1, 0]
    """
    channels, length = shape[1], len(size)
    index = torch.arange(length).view(channels, -1).mT.flatten()
    places = torch.arange(length)
    place, channel = places // channels, places % channels
    ids = {n: place * -(-channels // n) + channel // n for n in (share, run)}
    if share > 1 and run > 1 and max(share, run) % min(share, run):
        return None
    if act_order:
        rank = _rank(-size.cpu()[index])
        for n in sorted({share, run} - {1}):
            means = torch.zeros(length, dtype=size.dtype).scatter_reduce(
                0, ids[n], size.cpu()[index], "mean", include_self=False
            )
            rank = _rank(-means)[ids[n]] * length + rank
            rank = _rank(rank)
        places = rank.argsort()
    starts = {n: _starts(ids[n][places]) for n in (share, run)}
    cuts = starts[max(share, run)]
    return Layout(index[places], places, starts[share], starts[run], cuts)


def inverse_factor(matrix: Tensor, order: Tensor, damp: float) -> Tensor:
    """``U`` for the columns in ``order``; ``damp`` times the mean square is added to each square,
    and columns that are never used are left alone."""
    h = matrix[order][:, order]
    squares = h.diagonal()
    dead = squares == 0
    squares += damp * squares.mean()
    squares[dead] = torch.where(squares.max() > 0, squares.max(), 1.0)
    lower, failed = torch.linalg.cholesky_ex(h.flip(0, 1))
    if bool(failed):
        raise DovetailError(
            f"gptq: damp={damp} leaves the squares of some inputs without an inverse; the nearest "
            f"that may do is {10 * damp:g}"
        )
    eye = torch.eye(len(h), dtype=h.dtype, device=h.device)
    upper: Tensor = torch.linalg.solve_triangular(lower, eye, upper=False).flip(0, 1)
    return upper


def compensate(
    weight: Tensor, factor: Tensor, layout: Layout, columns: Columns, block: int, pattern: str
) -> None:
    """Round every column of ``weight [K, N]``, which is used up, in float64; ``pattern`` is the
    sparsity that is chosen on the way, if any. Later columns are brought up to date for ``block``
    at a time."""
    length = len(weight)
    share_ends = dict(pairwise((*layout.shares, length)))
    run_ends = dict(pairwise((*layout.runs, length)))
    shares = columns.sharing.span == "block"
    for start, stop in _spans(layout.cuts, length, block):
        errors = torch.zeros_like(weight[start:stop])
        for j in range(start, stop):
            if pattern and j in run_ends:
                _choose(weight, factor, columns, j, run_ends[j], pattern)
            if shares and j in share_ends:
                columns.share(j, weight[j : share_ends[j]])
            error = errors[j - start]
            torch.sub(weight[j], columns.round(j, weight[j]), out=error).div_(factor[j, j])
            weight[j + 1 : stop].addr_(factor[j, j + 1 : stop], error, alpha=-1)
        weight[stop:].addmm_(factor[start:stop, stop:].mT, errors, alpha=-1)


def _choose(
    weight: Tensor,
    factor: Tensor,
    columns: Columns,
    start: int,
    stop: int,
    pattern: str,
) -> None:
    """Which columns of a run are kept: those whose loss would cost most."""
    scores = (weight[start:stop] / factor.diagonal()[start:stop, None]).square()
    columns.keep_best(start, scores, pattern)


def _spans(cuts: Sequence[int], length: int, block: int) -> list[tuple[int, int]]:
    """Stretches of at least ``block`` columns between cuts."""
    chosen = [0]
    for cut in cuts:
        if cut - chosen[-1] >= block:
            chosen.append(cut)
    return list(pairwise((*chosen, length)))


def _starts(ids: Tensor) -> tuple[int, ...]:
    changes = (ids[1:] != ids[:-1]).nonzero().flatten() + 1
    return (0, *changes.tolist())


def _rank(values: Tensor) -> Tensor:
    order = values.argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
