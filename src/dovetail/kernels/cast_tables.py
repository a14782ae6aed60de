"""Formats given by lists of values as tables for the native core: step functions and octaves."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dovetail.formats.codebook import CodebookFormat, book_of
from dovetail.formats.realise import in_torch
from dovetail.kernels.cast_structs import Octaves, Steps

__all__ = ["Table", "is_stepwise", "octaves_of", "steps_of"]

_Array = np.ndarray[Any, Any]


class Table(NamedTuple):
    """A format as the core takes it; the arrays that the struct points to live as long."""

    struct: Steps | Octaves
    arrays: tuple[_Array, ...]


def is_stepwise(fmt: CodebookFormat) -> bool:
    """Whether the cast never falls: towards zero it does where no zero lies between the signs.

    >>> from dovetail.formats import format
    >>> is_stepwise(format("nf4")), is_stepwise(format("table(-1, 1, rounding=TowardZero)"))
    (True, False)
    """
    whole = fmt.mirrored or fmt.rounding.name != "TowardZero" or 0.0 in book_of(fmt).values
    return whole and not fmt.rounding.is_stochastic


@lru_cache(maxsize=32)
def steps_of(fmt: CodebookFormat) -> Table:
    """A code book as a step function of float32 numbers.

    >>> from dovetail.formats import format
    >>> steps_of(format("table(-1, 0, 1)")).struct.count
    3
    """
    keys, value = _ascents(fmt)
    shift, find, halvings = _lookup(keys)
    pad = 1 << halvings
    key = np.concatenate([keys, np.full(pad, 2**31 - 1)]).astype(np.int32)
    arrays = (key, np.concatenate([value, np.repeat(value[-1:], pad)]), find)
    return Table(Steps(*(a.ctypes.data for a in arrays), len(keys), shift, halvings), arrays)


@lru_cache(maxsize=32)
def _ascents(fmt: CodebookFormat) -> tuple[_Array, _Array]:
    """Where the cast of float32 numbers to ``fmt`` steps up, and to what: found by bisection.

    The cast is monotonic, so for each value of the format there is a least number that becomes at
    least that value; 32 halvings of the range of all numbers find it, for all values at once.
    """
    low, high = (_key(torch.tensor([v])).item() for v in (-math.inf, math.inf))
    values = set(book_of(fmt).values)
    values |= {-v for v in values if fmt.mirrored}
    wanted = torch.tensor(sorted(values), dtype=torch.float64).float()
    below = torch.full(wanted.shape, low - 1, dtype=torch.int64)
    reached = torch.full(wanted.shape, high, dtype=torch.int64)
    for _ in range(33):
        middle = (below + reached) >> 1
        inside = middle.clamp(low, high)
        up = in_torch(_number(inside), fmt) >= wanted
        reached = torch.where(up & (middle > below), inside, reached)
        below = torch.where(up, below, inside)
    keys = torch.cat((torch.tensor([low]), reached)).unique()
    value = in_torch(_number(keys), fmt)
    keep = torch.cat((torch.tensor([True]), value[1:] != value[:-1]))
    return keys[keep].numpy(), value[keep].numpy()


def _key(x: Tensor) -> Tensor:
    """float32 numbers as integers in the same order."""
    bits = x.view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()


def _number(key: Tensor) -> Tensor:
    bits = key.int()
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _lookup(keys: _Array) -> tuple[int, _Array, int]:
    """The coarsest first look-up (2**6 to 2**16 parts) that leaves one key per part, if any."""
    for shift in range(26, 15, -1):
        starts = np.arange(-(2**31), 2**31, 1 << shift)
        find = np.searchsorted(keys, starts, side="right") - 1
        find = np.maximum(find, 0)
        last = np.searchsorted(keys, starts + ((1 << shift) - 1), side="right") - 1
        most = int((last - find).max())
        if most <= 1:
            break
    return shift, find.astype(np.int32), most.bit_length()


@lru_cache(maxsize=32)
def octaves_of(fmt: CodebookFormat) -> Table | None:
    """A code book that repeats in every octave as a table of one octave; None if it does not.

    The table is read off one octave, and taken if it gives all the format's values.

    >>> from dovetail.formats import format
    >>> octaves_of(format("log(4, 3)")).struct.bits, octaves_of(format("posit(8, 1)"))
    (4, None)
    """
    magnitudes = _mirrored(fmt)
    if magnitudes is None or len(magnitudes[0]) < 2:
        return None
    starts, values = magnitudes
    if starts[0] == 0 or values[-1] >= 255 << 23:
        return None
    octave = int(values[len(values) // 2] >> 23) << 23
    for bits in range(3, 13):
        table = _octave(starts, values, octave, bits)
        if table is not None:
            break
    else:
        return None
    if not _repeats(starts, values, table, bits):
        return None
    least, low, high = np.array([starts[0], values[0], values[-1]], np.int32).view(np.float32)
    arrays = tuple(np.resize(row, max(len(row), 16)).astype(np.int32) for row in table)
    pointers = (a.ctypes.data for a in arrays)
    return Table(Octaves(*pointers, bits, int(fmt.signed), least, low, high), arrays)


def _mirrored(fmt: CodebookFormat) -> tuple[_Array, _Array] | None:
    """The positive side: first magnitudes and values, as bits; None unless the other mirrors it."""
    keys, values = _ascents(fmt)
    positive, negative = values > 0, values < 0
    starts, ends = keys[positive], -keys[1:][negative[:-1]][::-1]
    if fmt.signed and not (
        np.array_equal(starts, ends) and np.array_equal(values[positive], -values[negative][::-1])
    ):
        return None
    return starts, values[positive].view(np.int32).astype(np.int64)


def _octave(
    starts: _Array, values: _Array, octave: int, bits: int
) -> tuple[_Array, _Array, _Array] | None:
    """The octave's table by leading mantissa bits, or None if a part holds two steps."""
    edges = octave + (np.arange((1 << bits) + 1) << (23 - bits))
    first, last = (
        np.searchsorted(starts, e, side="right") - 1 for e in (edges[:-1], edges[1:] - 1)
    )
    if first.min() < 0 or (last - first).max() > 1:
        return None
    threshold = np.where(last > first, starts[last] - octave, 1 << 23)
    return threshold, values[first] - octave, values[last] - octave


def _repeats(
    starts: _Array, values: _Array, table: tuple[_Array, _Array, _Array], bits: int
) -> bool:
    """Whether the table gives the format's values at every place where either of them steps."""
    octaves = np.arange(starts[0] >> 23, (values[-1] >> 23) + 1).reshape(-1, 1) << 23
    parts = np.arange(1 << bits) << (23 - bits)
    places = np.concatenate([(octaves + parts).ravel(), (octaves + table[0]).ravel(), starts])
    places = np.concatenate([places, places - 1])
    places = places[(places >= starts[0]) & (places <= values[-1])]
    mantissa = places & ((1 << 23) - 1)
    part = mantissa >> (23 - bits)
    y = places - mantissa + np.where(mantissa >= table[0][part], table[2][part], table[1][part])
    expected = values[np.searchsorted(starts, places, side="right") - 1]
    return np.array_equal(np.maximum(y, values[0]), expected)
