"""Multiplications of every kind for the native core, and their definition in NumPy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_products import NativeMac
from dovetail.multipliers.classes import Lookups


def tables(seed: int) -> dict[str, np.ndarray]:
    """Tables of every width class, none commutative, none with f(0, 0) = 0."""
    rng = np.random.default_rng(seed)
    return {
        "pairs": rng.integers(-16000, 16000, (256, 256)),
        "short": rng.integers(-32768, 32768, (256, 256)),
        "offset": rng.integers(0, 65536, (256, 256)) + 100_000,
        "wide": rng.integers(-(2**18), 2**18, (256, 256)),
    }


def mac_of(
    kind: str, signed: bool, seed: int = 0, linear: bool = True
) -> tuple[NativeMac, np.ndarray]:
    rng = np.random.default_rng(seed)
    if kind.startswith("rank"):
        first = rng.integers(-128, 128, (int(kind[4:]), 256))
        second = rng.integers(-128, 128, (int(kind[4:]), 256))
        return NativeMac.factored(first, second, signed), first.T @ second
    if kind.startswith("bytes"):  # wherever they lie: unsigned, signed, moved; with constants
        low = 0 if kind == "bytes over 127" else -128
        first = rng.integers(0, 256, (3, 256)) + np.array([[0], [-128], [500]])
        second = rng.integers(low, low + 256, (3, 256))
        constant = rng.integers(-9999, 9999, 256)
        return NativeMac.factored(first, second, signed, constant), first.T @ second + constant
    if kind.startswith("classes"):
        return classes_of(int(kind[7:]), signed, rng, linear)
    if kind.startswith("only"):
        by_second = kind == "only the second's"
        sides = [lookups_of(2, rng, rng.integers(-9999, 9999, 256)), None]
        first, second = rng.integers(-128, 128, (2, 1, 256))
        found = sides[0].table() if by_second else sides[0].table().T
        table = first.T @ second + found + sides[0].constant
        pair = tuple(sides if by_second else reversed(sides))
        return NativeMac.factored(first, second, signed, None, pair), table
    table = tables(seed)[kind]
    return NativeMac.table(table, signed), table


def lookups_of(count: int, rng: np.random.Generator, constant: np.ndarray) -> Lookups:
    return Lookups(
        rng.integers(0, 256, (count, 256, 16)),
        rng.integers(0, 16, (count, 256)),
        rng.integers(1, 128, count),
        constant,
    )


def classes_of(count: int, signed: bool, rng: np.random.Generator, linear: bool):
    """A product and lookups, which stand for one table in linear layers, another in others."""
    first, second = rng.integers(-128, 128, (2, 1, 256))
    constant = rng.integers(-9999, 9999, 256)
    sides = tuple(lookups_of(count, rng, constant) for _ in range(2))
    mac = NativeMac.factored(first, second, signed, None, sides)
    found = sides[0].table() if linear else sides[1].table().T
    # One channel per group is looked up in the table of the linear form.
    return mac, first.T @ second + found + constant


def codes(shape: tuple[int, ...], signed: bool, seed: int = 0) -> torch.Tensor:
    low, high, dtype = (-128, 128, torch.int8) if signed else (0, 256, torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, generator=generator).to(dtype)


def loop(table: np.ndarray, a: torch.Tensor, w: torch.Tensor, g: Geometry, pad: int = 0):
    """The definition, one channel of the output at a time."""
    table = table.astype(np.int64)
    x = a.contiguous().numpy().view(np.uint8)
    y = w.contiguous().numpy().view(np.uint8)
    if g.spatial == 0:
        return table[x[..., None, :], y].sum(-1)
    x = np.pad(x, [(0, 0), (0, 0), *g.padding], constant_values=pad & 255)
    axes = tuple(range(2, x.ndim))
    spans = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], g.dilation, strict=True)]
    windows = sliding_window_view(x, spans, axes)  # [batch, channel, *pixel, *tap]
    steps = (slice(None, None, n) for n in (*g.stride, *g.dilation))
    windows = windows[(slice(None), slice(None), *steps)]
    per_group, channels = w.shape[0] // g.groups, w.shape[1]
    taps = tuple(range(1 - w.ndim + 1, 0))
    outputs = []
    for n in range(w.shape[0]):
        first = n // per_group * channels
        weights = y[n].reshape(1, channels, *[1] * len(axes), *w.shape[2:])
        products = table[windows[:, first : first + channels], weights]
        outputs.append(products.sum((1, *taps)))
    return np.stack(outputs, 1)
