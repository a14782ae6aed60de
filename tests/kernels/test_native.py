"""Every level of the native core equals a plain loop, bit for bit."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch

from dovetail.errors import DovetailError
from dovetail.kernels import native
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.native import NativeMac

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")


@pytest.fixture(params=native.levels())
def level(request):
    native.set_isa(request.param)
    yield request.param
    native.set_isa(None)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def tables(seed: int) -> dict[str, np.ndarray]:
    """Tables of every width class, none commutative, none with f(0, 0) = 0."""
    rng = np.random.default_rng(seed)
    return {
        "pairs": rng.integers(-16000, 16000, (256, 256)),
        "short": rng.integers(-32768, 32768, (256, 256)),
        "offset": rng.integers(0, 65536, (256, 256)) + 100_000,
        "wide": rng.integers(-(2**18), 2**18, (256, 256)),
    }


def mac_of(kind: str, signed: bool, seed: int = 0) -> tuple[NativeMac, np.ndarray]:
    if kind.startswith("rank"):
        rng = np.random.default_rng(seed)
        first = rng.integers(-128, 128, (int(kind[4:]), 256))
        second = rng.integers(-128, 128, (int(kind[4:]), 256))
        return NativeMac.factored(first, second, signed), first.T @ second
    table = tables(seed)[kind]
    return NativeMac.table(table, signed), table


def codes(shape: tuple[int, ...], signed: bool, seed: int = 0) -> torch.Tensor:
    low, high, dtype = (-128, 128, torch.int8) if signed else (0, 256, torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, generator=generator).to(dtype)


def loop(table: np.ndarray, a: torch.Tensor, w: torch.Tensor, g: Geometry, pad: int = 0):
    """The definition, one output at a time."""
    table = table.astype(np.int64)
    x = a.contiguous().numpy().view(np.uint8)
    y = w.contiguous().numpy().view(np.uint8)
    if g.spatial == 0:
        return table[x[..., None, :], y].sum(-1)
    x = np.pad(x, [(0, 0), (0, 0), *g.padding], constant_values=pad & 255)
    out = g.out_size(a.shape[2:], w.shape[2:])
    per_group, channels = w.shape[0] // g.groups, w.shape[1]
    result = np.zeros((a.shape[0], w.shape[0], *out), dtype=np.int64)
    for n in range(w.shape[0]):
        first = n // per_group * channels
        for at in itertools.product(*map(range, out)):
            window = tuple(
                slice(o * s, o * s + d * (k - 1) + 1, d)
                for o, s, d, k in zip(at, g.stride, g.dilation, w.shape[2:], strict=True)
            )
            patch = x[(slice(None), slice(first, first + channels), *window)]
            dims = tuple(range(1, patch.ndim))
            result[(slice(None), n, *at)] = table[patch, y[n]].sum(dims)
    return result


KINDS = ["rank1", "rank2", "rank5", "pairs", "short", "offset", "wide"]
LINEARS = [
    ((1, 1), (1, 1)),
    ((1, 37), (70, 37)),
    ((5, 64), (3, 64)),
    ((0, 8), (4, 8)),
    ((33, 131), (17, 131)),
    ((67, 30), (129, 30)),
    ((2, 3, 19), (40, 19)),
    ((300, 9), (50, 9)),
]
CONVS = [
    # a shape, w shape, stride, padding, dilation, groups
    ((1, 3, 8, 8), (5, 3, 3, 3), 1, 1, 1, 1),
    ((2, 4, 9, 7), (33, 4, 3, 3), 2, 1, 1, 1),
    ((3, 6, 7, 7), (10, 3, 3, 3), 1, 1, 1, 2),
    ((2, 5, 6, 11), (7, 5, 1, 1), 1, 0, 1, 1),
    ((2, 5, 9, 9), (12, 5, 1, 1), 2, 0, 1, 1),
    ((1, 9, 10, 10), (9, 1, 3, 3), 1, 1, 1, 9),
    ((2, 4, 12, 9), (8, 1, 3, 3), 2, [(0, 1), (1, 0)], 1, 4),
    ((1, 17, 12, 13), (20, 17, 3, 3), 1, [(2, 1), (0, 3)], 2, 1),
    ((2, 2, 10, 11), (9, 2, 4, 2), (3, 2), [(3, 0), (1, 2)], (1, 3), 1),
    ((2, 3, 5, 5), (4, 3, 1, 1), 1, 2, 1, 1),
    ((0, 3, 5, 5), (4, 3, 3, 3), 1, 1, 1, 1),
    ((9, 3, 3, 3), (12, 3, 3, 3), 1, 0, 1, 1),
    ((2, 6, 33), (12, 3, 5), 2, 2, 1, 2),
    ((2, 3, 5, 6, 4), (5, 3, 2, 3, 3), (1, 2, 1), 1, 1, 1),
    ((1, 2, 3, 1100), (2, 2, 1, 3), (1, 1), 1, 1, 1),
    ((1, 2, 3, 1100), (2, 2, 1, 3), (1, 2), 1, 1, 1),
]


@cache
def linear_case(kind: str, signed: bool, i: int):
    mac, table = mac_of(kind, signed)
    a, w = codes(LINEARS[i][0], signed, i), codes(LINEARS[i][1], signed, 100 + i)
    return mac, a, w, loop(table, a, w, LINEAR)


@cache
def conv_case(kind: str, i: int):
    a_shape, w_shape, stride, padding, dilation, groups = CONVS[i]
    signed = i % 2 == 0
    mac, table = mac_of(kind, signed, i)
    geometry = Geometry.conv(
        len(a_shape) - 2, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    a, w = codes(a_shape, signed, i), codes(w_shape, signed, 100 + i)
    pad = -5 if signed else 131
    return mac, geometry, a, w, pad, loop(table, a, w, geometry, pad)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signed", [True, False])
def test_linear_codes_equal_the_loop(level, threads, kind, signed):
    for i in range(len(LINEARS)):
        mac, a, w, expected = linear_case(kind, signed, i)
        got = mac.codes(a, mac.pack(w))
        assert got.dtype == torch.int32
        np.testing.assert_array_equal(got.numpy(), expected, err_msg=str(LINEARS[i]))


@pytest.mark.parametrize("kind", KINDS)
def test_conv_codes_equal_the_loop(level, threads, kind):
    for i in range(len(CONVS)):
        mac, geometry, a, w, pad, expected = conv_case(kind, i)
        got = mac.codes(a, mac.pack(w, geometry), pad_code=pad)
        np.testing.assert_array_equal(got.numpy(), expected, err_msg=str(CONVS[i]))
