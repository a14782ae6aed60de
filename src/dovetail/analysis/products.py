"""How many of the products an op really computed differ from the exact ones.

An operand element takes part in as many products as there are elements that stand at the same
reduction index on the other side. So the op is a list of *meetings*: at each reduction index
(channel and tap), every input element there is multiplied with every weight element there.
:func:`changed_pairs` walks all those pairs; :func:`changed_products` gets the same integer from
histograms, since the pair ``(a, w)`` occurs as often as ``a`` does times as often as ``w`` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product as all_of

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.multipliers import Multiplier

__all__ = ["Changed", "changed_pairs", "changed_products", "meetings"]

BLOCK = 1 << 22  # entries of the largest intermediate: 32 MiB of float64
NARROW = 1 << 10  # so few possible values are all listed; of more, only those that occur


@dataclass(frozen=True)
class Changed:
    """``changed`` of ``total`` products were not ``a * w``."""

    changed: int
    total: int

    @property
    def share(self) -> float:
        """The fraction changed; 0 where nothing was multiplied.

        >>> Changed(1, 4).share
        0.25
        """
        return self.changed / self.total if self.total else 0.0

    def __add__(self, other: Changed) -> Changed:
        return Changed(self.changed + other.changed, self.total + other.total)


def changed_pairs(
    a: Tensor, w: Tensor, mul: Multiplier, geometry: Geometry | None = LINEAR, pad_code: int = 0
) -> Changed:
    """The definition: look at every product of the op in turn. Slow; for tests and small cases.

    ``a`` and ``w`` hold operand values, laid out as ``dv.ops.linear_codes`` and ``conv_codes``
    take them; padded pixels are products with ``pad_code``. ``geometry=None`` is the product of
    two activations, ``a [..., M, K]`` and ``w [..., K, N]``.

    >>> from dovetail.multipliers import multiplier
    >>> drops_low_bit = multiplier("mul8s_1KVM")            # f(a, w) = (a & ~1) * w
    >>> changed_pairs(torch.tensor([[1, 2]]), torch.tensor([[3, 4], [0, 5]]), drops_low_bit)
    Changed(changed=1, total=4)
    """
    result = Changed(0, 0)
    for first, second in meetings(a, w, geometry, pad_code):
        for inputs, weights in zip(first.tolist(), second.tolist(), strict=True):
            for x, y in all_of(inputs, weights):
                result += Changed(int(int(mul(x, y)) != x * y), 1)
    return result


def changed_products(
    a: Tensor, w: Tensor, mul: Multiplier, geometry: Geometry | None = LINEAR, pad_code: int = 0
) -> Changed:
    """The same count as :func:`changed_pairs`, evaluating ``mul`` once per distinct operand pair.

    >>> from dovetail.multipliers import multiplier
    >>> changed_products(torch.tensor([[1, 2]]), torch.tensor([[3, 4], [0, 5]]),
    ...                  multiplier("mul8s_1KVM"))
    Changed(changed=1, total=4)
    """
    result = Changed(0, 0)
    for first, second in meetings(a, w, geometry, pad_code):
        total = first.numel() * second.shape[1]
        step = max(1, BLOCK // (NARROW + max(first.shape[1], second.shape[1])))
        for some, others in zip(torch.split(first, step), torch.split(second, step), strict=True):
            result += Changed(_changed(some, others, mul), 0)
        result += Changed(0, total)
    return result


def _changed(first: Tensor, second: Tensor, mul: Multiplier) -> int:
    """Changed products between ``first [R, P]`` and ``second [R, N]``, each row with its row."""
    if first.numel() == 0 or second.numel() == 0:
        return 0
    a, w = _values(first), _values(second)
    met_a, met_w = _histogram(first, a), _histogram(second, w)
    across = w.numpy()[None, :]
    changed, step = 0, max(1, BLOCK // len(w))
    for start in range(0, len(a), step):
        down = a[start : start + step].numpy()[:, None]
        differs = torch.from_numpy((mul(down, across) != down * across).astype(np.float64))
        # sums of integers in float64: exact up to 2**53 products
        changed += int(((met_a[:, start : start + step] @ differs) * met_w).sum().item())
    return changed


def _values(x: Tensor) -> Tensor:
    """The values that may occur in ``x``, ascending: the whole range if it is narrow."""
    low, high = (int(v) for v in x.aminmax())
    return torch.arange(low, high + 1) if high - low < NARROW else torch.unique(x)


def _histogram(rows: Tensor, values: Tensor) -> Tensor:
    """``[len(rows), len(values)]``: how often each of the sorted ``values`` occurs in each row."""
    index = torch.searchsorted(values, rows.contiguous())
    index += torch.arange(len(rows))[:, None] * len(values)
    counts = torch.bincount(index.flatten(), minlength=len(rows) * len(values))
    return counts.view(len(rows), len(values)).to(torch.float64)


def meetings(
    a: Tensor, w: Tensor, geometry: Geometry | None, pad_code: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs ``(first [R, P], second [R, N])``: all of one's row meet all of the other's.

    >>> [tuple(map(list, pair)) for pair in meetings(torch.ones(2, 1), torch.ones(3, 1), LINEAR, 0)]
    [([tensor([1, 1])], [tensor([1, 1, 1])])]
    """
    a, w = a.detach().cpu().to(torch.int64), w.detach().cpu().to(torch.int64)
    if geometry is None:
        batch = torch.broadcast_shapes(a.shape[:-2], w.shape[:-2])
        a, w = a.expand(*batch, *a.shape[-2:]), w.expand(*batch, *w.shape[-2:])
        rows = math.prod(batch) * w.shape[-2]
        yield a.mT.reshape(rows, a.shape[-2]), w.reshape(rows, w.shape[-1])
        return
    geometry.out_shape(a.shape, w.shape)  # refuses shapes that do not fit
    if geometry.spatial == 0:
        yield a.reshape(math.prod(a.shape[:-1]), a.shape[-1]).T, w.T
        return
    outputs = w.shape[0] // geometry.groups
    grouped = w.reshape(geometry.groups, outputs, w.shape[1], -1)
    weights = grouped.permute(3, 0, 2, 1).reshape(grouped.shape[3], a.shape[1], outputs)
    for tap, window in enumerate(_windows(a, w.shape[2:], geometry, pad_code)):
        yield window, weights[tap]


def _windows(a: Tensor, kernel: torch.Size, geometry: Geometry, pad_code: int) -> Iterator[Tensor]:
    """For each tap in turn, ``[channels, positions]``: the pixels that it sees."""
    padded = F.pad(a, [p for pair in reversed(geometry.padding) for p in pair], value=pad_code)
    sizes = geometry.out_size(a.shape[2:], kernel)
    for offsets in all_of(*(range(k) for k in kernel)):
        steps = zip(offsets, geometry.dilation, geometry.stride, sizes, strict=True)
        seen = tuple(slice(o * d, o * d + (size - 1) * s + 1, s) for o, d, s, size in steps)
        yield padded[(slice(None), slice(None), *seen)].transpose(0, 1).flatten(1)
