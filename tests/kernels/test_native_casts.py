"""The native casts against the pure-torch form, bit for bit, at every instruction-set level."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import dovetail as dv
from dovetail.formats.base import BlockFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat, p3109
from dovetail.formats.logarithmic import LogFormat
from dovetail.formats.posit import PositFormat
from dovetail.formats.realise import in_torch, round_values
from dovetail.formats.rounding import Rounding
from dovetail.formats.scaled import ScaledBlock
from dovetail.formats.tables import NF4, TableFormat
from dovetail.kernels import native
from dovetail.kernels.cast_tables import octaves_of
from dovetail.kernels.native_casts import cast_into, supports
from native_cast_values import (
    ALL_KINDS,
    DTYPES,
    E2M1,
    E4M3,
    E8M0,
    MODES,
    SEED,
    UNSIGNED,
    blocks,
    check,
    numbers,
    same,
)

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

FLOATS = [
    E4M3,
    E2M1,
    FloatFormat(5, 2, saturation="SatNone"),
    FloatFormat(4, 3, specials="fn", saturation="SatNone"),
    FloatFormat(5, 2, specials="fnuz", bias=16, saturation="SatNone"),
    FloatFormat(3, 2, specials="finite"),
    FloatFormat(5, 10, saturation="SatNone"),
    FloatFormat(8, 7, saturation="SatPropagate"),
    FloatFormat(8, 10, saturation="SatNone"),
    FloatFormat(3, 0, specials="finite"),
    FloatFormat(4, 3, subnormals=False),
    FloatFormat(4, 4, signed=False, specials="finite"),
    FloatFormat(11, 52, saturation="SatNone"),
    FloatFormat(8, 3, bias=140),  # its normal values are subnormal in float32
    FloatFormat(5, 3, bias=-110),  # beyond float32
    p3109(8, 3, True, True),
    UNSIGNED,
    E8M0,
]
FIXED = [
    FixedFormat(8, 4),
    FixedFormat(8, -3, symmetric=True),
    FixedFormat(32, 8),
    FixedFormat(32, 0, symmetric=True),  # its largest value is no float32
    FixedFormat(8, 4, signed=False),
    FixedFormat(8, 2, clamp=False),
    FixedFormat(1, 0),
    FixedFormat(8, 128),
]
BOOKS = [
    PositFormat(8, 1),
    PositFormat(16, 2),
    LogFormat(4, 3),
    LogFormat(4, 1, signed=False),
    LogFormat(3, 7),
    LogFormat(6),
    PositFormat(3, 3),
    PositFormat(12, 0),
    TableFormat((-12.0, -6.0, -3.0, -1.5, 0.0, 1.5, 3.0, 6.0, 12.0)),
    TableFormat(NF4),
    TableFormat((-3.0, -1.0, 0.5, 7.0)),
    TableFormat(tuple(float(i) ** 3 for i in range(-40, 50))),
]


@pytest.fixture(autouse=True)
def restore():
    threads = torch.get_num_threads()
    yield
    native.set_isa(None)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fmt", FLOATS + FIXED, ids=lambda f: repr(f)[:40])
def test_elements(fmt, dtype):
    x = numbers(dtype)
    every = 3 if dtype.itemsize == 2 else 9
    for i, mode in enumerate(MODES):
        check(x[i % every :: every], replace(fmt, rounding=mode))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fmt", FLOATS + FIXED, ids=lambda f: repr(f)[:40])
def test_every_number_in_every_mode(fmt, dtype):
    for mode in MODES:
        check(numbers(dtype), replace(fmt, rounding=mode))


@pytest.mark.parametrize("fmt", BOOKS, ids=lambda f: repr(f)[:40])
def test_code_books(fmt):
    if isinstance(fmt, LogFormat):
        assert octaves_of(fmt) is not None
    for i, mode in enumerate(MODES[:-2]):
        rounded = replace(fmt, rounding=mode)
        if fmt.spelling.startswith("table(-3.0") and mode.name == "TowardZero":
            assert not supports(rounded)  # falls from 0.5 to -1 at zero: no step function
            continue
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            every = 3 if dtype.itemsize == 2 else 9
            check(numbers(dtype)[i % every :: every], rounded)


def _short_books() -> list[tuple[float, ...]]:
    """Code books for a look-up of equal cells, and others: their keys lie too close, or at 0."""
    rng = np.random.default_rng(5)
    sizes = (2, 3, 5, 16, 29, 32, 33)
    even = [tuple(np.arange(n) * 0.7 - 0.5) for n in sizes]
    near_even = [tuple(np.arange(n) + rng.uniform(0, 0.4, n) - n / 3) for n in sizes]
    random = [tuple(np.sort(rng.standard_normal(n))) for n in sizes]
    far = [(1e30, 3e38), (-3e38, 3e38), (1e-40, 2e-40, 3e-40), (1e6, 1e6 + 1, 1e6 + 2), (-1.0, 1.0)]
    books = (*even, *near_even, *random, *far)
    return [tuple(map(float, book)) for book in books if book[-1] > 0]


def test_short_code_books():
    """Values around every key, alone and in blocks with scales of all sizes."""
    x = numbers(torch.float32)[::1501]
    for book in _short_books():
        values = torch.tensor(book)
        keys = torch.cat([values, (values[1:].double() + values[:-1].double()).div(2).float()])
        up, down = (keys.nextafter(torch.tensor(end)) for end in (math.inf, -math.inf))
        check(torch.cat([x, keys, up, down]), TableFormat(book))
    whole = FloatFormat(8, 23)
    for book in _short_books()[5:20:2]:
        fmt = ScaledBlock(TableFormat((*book, 3.25)), whole, 32)
        tiny, huge = (torch.full((1, 70), v) for v in (1e-39, 2e38))
        near = torch.tensor((*book, 3.25)).repeat(70)[:70].expand(1, 70) * 0.3
        y = torch.cat([blocks(torch.float32)[3], tiny, huge, near])
        for axis in (0, 1):
            check(y, fmt, axis)


@pytest.mark.parametrize("name", ALL_KINDS)
def test_threads_strides_and_in_place(name):
    fmt, generator = dv.format(name), torch.Generator().manual_seed(2)
    x = torch.randn(6, 70, 90, generator=generator)
    views = {
        "transposed": x.transpose(0, 2),
        "channels last": x[None].contiguous(memory_format=torch.channels_last),
        "every second": x[:, ::2, 1::3],
        "reversed rows": x.flip(1)[:, 3:],
        "expanded": x[:, :1].expand(6, 50, 90),
        "scalars": x[0, 0, 0],
        "empty": x[:, :0],
    }
    for label, view in views.items():
        if view.dim() == 0 and isinstance(fmt, BlockFormat):
            continue
        for axis in range(view.dim()) if view.dim() else [-1]:
            expected = in_torch(view.contiguous(), fmt, axis, torch.tensor(SEED))
            for threads in (1, 2):
                torch.set_num_threads(threads)
                assert same(cast_into(view, fmt, axis, SEED), expected), label
            out = torch.empty(view.shape[::-1]).permute(tuple(reversed(range(view.dim()))))
            assert cast_into(view, fmt, axis, SEED, out) is out
            assert same(out, expected), label
            if label in ("transposed", "every second"):
                place = view.clone(memory_format=torch.preserve_format)
                assert cast_into(place, fmt, axis, SEED, place) is place
                assert same(place, expected)


def test_threads_share_large_tensors():
    x = torch.randn(700, 1000, generator=torch.Generator().manual_seed(3))
    for name in ALL_KINDS:
        for axis in (0, 1):
            results = []
            for threads in (1, 2):
                torch.set_num_threads(threads)
                results.append(cast_into(x, dv.format(name), axis, SEED))
            assert same(*results)


def test_flush_to_zero_changes_nothing():
    x = numbers(torch.float32)[::5]
    small = blocks(torch.float32)
    formats = [dv.format(n) for n in ("bf16", "posit(16, 2)", "fp8_e5m2", "mxfp8_e4m3", "mxint8")]
    tensors = [small if hasattr(f, "block") else x for f in formats]
    before = [cast_into(t, f) for t, f in zip(tensors, formats, strict=True)]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such setting")
    try:
        after = [cast_into(t, f) for t, f in zip(tensors, formats, strict=True)]
    finally:
        torch.set_flush_denormal(False)
    for a, b in zip(before, after, strict=True):
        assert bool((a.view(torch.int32) == b.view(torch.int32)).logical_or(a.isnan()).all())


def test_eager_casts_run_here(monkeypatch):
    from dovetail.kernels import native_casts

    calls = []
    real = native_casts._call
    monkeypatch.setattr(native_casts, "_call", lambda *a: (calls.append(a[2]), real(*a)))
    for name in ("fp8_e4m3", "mxfp4", "nvfp4", "posit(8, 1)"):
        round_values(torch.randn(3, 40), dv.format(name), -1)
        assert calls.pop() == dv.format(name)
    assert cast_into(torch.randn(3), dv.format("posit(8, 1, rounding=Stochastic)")) is None
    assert cast_into(torch.randn(3, device="meta"), dv.format("fp16")) is None
    with pytest.raises(dv.DovetailError, match=r"axis=2 .* is not an axis of a tensor with 1 dim"):
        cast_into(torch.randn(3), dv.format("mxfp4"), 2)


@pytest.mark.parametrize("mode", ["TiesToEven", "TiesToAway", "TowardZero", "TowardPositive"])
def test_gfloat_agrees(mode):
    gfloat = pytest.importorskip("gfloat")
    known = pytest.importorskip("gfloat.formats")
    x = numbers(torch.float32)
    x = x[x.isfinite()][::2]
    ours = {"TiesToEven": "NearestTiesToEven", "TiesToAway": "NearestTiesToAway"}.get(mode, mode)
    for name, theirs in (
        ("fp8_e4m3", "ocp_e4m3"),
        ("fp8_e5m2", "ocp_e5m2"),
        ("fp6_e2m3fn", "ocp_e2m3"),
    ):
        fmt = replace(dv.format(name), rounding=Rounding(ours))
        info = getattr(known, f"format_info_{theirs}")
        expected = gfloat.round_ndarray(
            info, x.double().numpy(), rnd=getattr(gfloat.RoundMode, mode), sat=True
        )
        assert np.array_equal(cast_into(x, fmt).double().numpy(), expected)
