"""The range that changes the distribution of a tensor's values least."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.formats.integer import IntFormat
from dovetail.formats.observers.base import Range
from dovetail.formats.observers.sample import BINS, Histogram

__all__ = ["least_divergence"]

_STEP = 8  # bins between two cuts that are tried


def least_divergence(seen: Histogram, low: Tensor, high: Tensor, fmt: IntFormat) -> Range:
    """The cut with the least Kullback-Leibler divergence of the quantised from the true histogram.

    As NVIDIA's TensorRT does it (S. Migacz, "8-bit Inference with TensorRT", GTC 2017), on counts
    by magnitude: cut after ``i`` bins, ``P`` is the histogram with all beyond the cut in its last
    bin; ``Q`` spreads the counts of the first ``i`` bins, summed in as many runs as the format has
    magnitudes, evenly over the bins of each run that were not empty. Every eighth ``i`` is tried;
    of equal ones the widest wins. Exact zeros say nothing of a range: their bin counts as its
    neighbour. A format with as many magnitudes as there are bins keeps the extremes.

    >>> x = torch.cat([torch.linspace(-1, 1, 9999), torch.tensor([8.0])])[None]
    >>> seen = Histogram(x)
    >>> bool(least_divergence(seen, x.amin(1), x.amax(1), IntFormat(8))[1] < 8)
    True
    """
    signed = fmt.affine or fmt.signed
    levels = (fmt.qmax - fmt.qmin + 1) // 2 + (not fmt.affine) if signed else fmt.qmax + 1
    counts = seen.magnitudes().double()
    counts[:, 0] = counts[:, 1]
    best, least = torch.full(low.shape, BINS, device=low.device), torch.full_like(low, torch.inf)
    for cut in range(BINS, levels - 1, -_STEP):
        found = _divergence(counts, cut, levels).float()
        best = torch.where(found < least, cut, best)
        least = torch.minimum(found, least)
    edge = (best * seen.width).float()
    return torch.maximum(low, -edge), torch.minimum(high, edge)


def _divergence(counts: Tensor, cut: int, levels: int) -> Tensor:
    """The divergence of ``Q`` from ``P`` for one cut, [rows]; infinite where Q lacks a bin of P."""
    inner = counts[:, :cut]
    p = inner.clone()
    p[:, -1] += counts[:, cut:].sum(1)
    run = (torch.arange(cut, device=counts.device) * levels).div(cut, rounding_mode="floor")
    empty = counts.new_zeros(len(counts), levels)
    sums = empty.index_add(1, run, inner)
    bins = empty.index_add(1, run, (inner > 0).double())
    q = torch.where(inner > 0, (sums / bins.clamp(min=1))[:, run], 0.0)
    p = p / p.sum(1, keepdim=True)
    q = q / q.sum(1, keepdim=True).clamp(min=1)
    return torch.where(p > 0, p * (p / q).log(), 0.0).sum(1).nan_to_num(torch.inf, torch.inf)
