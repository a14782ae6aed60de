"""What tests of products of block formats share: numbers, and the definition beside what runs."""

from __future__ import annotations

import torch

import dovetail as dv
from dovetail.kernels import block
from dovetail.kernels.geometry import LINEAR
from dovetail.kernels.realisation import using


def spread(*shape: int, seed: int = 0, binades: int = 12) -> torch.Tensor:
    """Normal numbers times powers of two."""
    g = torch.Generator().manual_seed(seed)
    powers = torch.randint(-binades, binades + 1, shape, generator=g).float()
    return torch.randn(*shape, generator=g) * torch.exp2(powers)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bits, NaN included."""
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def by_definition(x, w, bias, first, second, geometry=LINEAR):
    with using("reference"):
        return block.emulate(x, w, bias, dv.format(first), dv.format(second), geometry)


def fast(x, w, bias, first, second, geometry=LINEAR):
    return block.emulate(x, w, bias, dv.format(first), dv.format(second), geometry)


def extreme(x: torch.Tensor) -> torch.Tensor:
    """Blocks of zeros, NaN, infinities, subnormal and huge numbers, in rows of their own."""
    x = x.clone()
    rows, length = x.shape
    x[0] = 0
    x[1 % rows, -1] = torch.nan
    x[2 % rows, 0] = -torch.inf
    x[3 % rows] *= 2.0**-130
    x[4 % rows] = torch.where(x[4 % rows] > 0, 3.4e38, -2e38)
    x[5 % rows, : length // 2] = -0.0
    x[6 % rows] = 2.0**-149
    return x
