"""The native casts against the pure-torch form, bit for bit, at every instruction-set level."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import dovetail as dv
from dovetail.formats import reference
from dovetail.formats.base import BlockFormat, Format
from dovetail.formats.block import SCALE_MODES, BlockFloat, MXFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat, p3109
from dovetail.formats.integer import IntFormat
from dovetail.formats.logarithmic import LogFormat
from dovetail.formats.posit import PositFormat
from dovetail.formats.quantization import dequantize, quantize
from dovetail.formats.realise import Report, in_torch, inside, round_values
from dovetail.formats.rounding import ROUNDINGS, Rounding
from dovetail.formats.scaled import NVFP4, ScaledBlock
from dovetail.formats.tables import NF4, TableFormat
from dovetail.kernels import native
from dovetail.kernels.cast_tables import octaves_of
from dovetail.kernels.native_casts import cast_into, supports
from dovetail.kernels.native_integers import fake_quantize

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

MODES = [*map(Rounding, ROUNDINGS), Rounding("Stochastic", 24), Rounding("Stochastic", 5)]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SEED = 0x1234_5678_9ABC_DEF0

E4M3, E2M1 = FloatFormat(4, 3, specials="fn"), FloatFormat(2, 1, specials="finite")
UNSIGNED = FloatFormat(4, 4, bias=7, signed=False, magnitude=True, subnormals=False)
E8M0 = FloatFormat(8, 0, signed=False, zero=False, specials="fn")
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


def numbers(dtype: torch.dtype) -> Tensor:
    """All numbers of a 16-bit type; else every sign, exponent and leading bits, and random ones."""
    if dtype.itemsize == 2:
        return torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    generator = torch.Generator().manual_seed(0)
    top = torch.arange(0, 2**16, 1 if dtype == torch.float32 else 9).view(-1, 1) << 16
    low = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    grid = (top | low).flatten().to(torch.int32).view(torch.float32)
    scale = torch.randint(-140, 128, (20000,), generator=generator).to(dtype)
    wild = torch.randn(20000, generator=generator, dtype=dtype) * torch.exp2(scale)
    tame = torch.randn(20000, generator=generator, dtype=dtype)
    if dtype == torch.float32:
        return torch.cat([grid, tame, wild])
    exact = grid.double()
    far = torch.tensor(1e300, dtype=dtype)
    ends = torch.tensor([math.inf, -math.inf, math.nan, -0.0, 5e-324, 1.7e308], dtype=dtype)
    return torch.cat(
        [exact, exact.nextafter(far), exact.nextafter(-far), tame, wild, wild**7, ends]
    )


def blocks(dtype: torch.dtype) -> Tensor:
    """Blocks of all magnitudes; with zeros of both signs, few NaN and infinities, one all zero."""
    generator = torch.Generator().manual_seed(1)
    shape = (60, 9, 70)
    low, high = (-24, 15) if dtype == torch.float16 else (-160, 128)
    scale = torch.randint(low, high, (60, 1, 1), generator=generator).double()
    near = torch.randint(-3, 3, shape, generator=generator).double()
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * torch.exp2(scale + near)
    x = x.to(dtype)
    flat = x.view(-1)
    flat[::97], flat[5::101] = 0.0, -0.0
    flat[1003::20011], flat[2003::20021] = math.nan, math.inf
    x[0] = 0
    x[1, :, ::2] = torch.tensor([1.5, 3.0, 6.0, 12.0, 0.75]).repeat(7).to(dtype)  # ties
    return x


def same(a: Tensor, b: Tensor) -> bool:
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.dtype.itemsize]
    equal = (a.contiguous().view(integer) == b.contiguous().view(integer)) | (a.isnan() & b.isnan())
    return a.shape == b.shape and a.dtype == b.dtype and bool(equal.all())


def check(x: Tensor, fmt: Format, axis: int = -1) -> None:
    """Every level gives the bits of the pure-torch form."""
    expected = in_torch(x, fmt, axis, torch.tensor(SEED))
    for level in native.levels():
        native.set_isa(level)
        y = cast_into(x, fmt, axis, SEED)
        assert y is not None, f"{fmt} is not native for {x.dtype}"
        assert same(y, expected), f"{fmt!r} on {level}, axis {axis}, {x.dtype}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fmt", FLOATS + FIXED, ids=lambda f: repr(f)[:40])
def test_elements(fmt, dtype):
    x = numbers(dtype)
    for i, mode in enumerate(MODES):
        check(x if dtype.itemsize == 2 else x[i % 3 :: 3], replace(fmt, rounding=mode))


@pytest.mark.parametrize("fmt", BOOKS, ids=lambda f: repr(f)[:40])
def test_code_books(fmt):
    if isinstance(fmt, LogFormat):
        assert octaves_of(fmt) is not None
    for mode in MODES[:-2]:
        rounded = replace(fmt, rounding=mode)
        if fmt.spelling.startswith("table(-3.0") and mode.name == "TowardZero":
            assert not supports(rounded)  # falls from 0.5 to -1 at zero: no step function
            continue
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            check(numbers(dtype)[:: 1 if dtype.itemsize == 2 else 3], rounded)


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


def _block_formats() -> list[Format]:
    found: list[Format] = []
    for i, mode in enumerate(MODES):
        scaling = SCALE_MODES[i % 4], SCALE_MODES[(i + 1) % 4]
        found += [
            BlockFloat(8, 64, rounding=mode),
            BlockFloat(4, 16, symmetric=False, rounding=mode),
            BlockFloat(24, 7, rounding=mode),
            MXFormat(replace(E4M3, rounding=mode), 32, scaling[0]),
            MXFormat(replace(E2M1, rounding=mode), 32, scaling[1]),
            MXFormat(FixedFormat(8, 6, symmetric=True, rounding=mode), 32, scaling[1]),
            MXFormat(FixedFormat(8, 6, rounding=mode), 5, scaling[0]),
            NVFP4(16, rounding=mode),
            ScaledBlock(FixedFormat(4, 0, symmetric=True, rounding=mode), UNSIGNED, 16),
        ]
    nearest = [
        MXFormat(element, 8, mode)
        for mode in SCALE_MODES
        for element in (FloatFormat(5, 2), FixedFormat(30, 28), FixedFormat(4, 2))
    ]
    book = ScaledBlock(TableFormat(NF4), FloatFormat(8, 23), 64)
    return [*found, *nearest, book, BlockFloat(2, 33)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blocks(dtype, axis):
    x = blocks(dtype)
    for fmt in _block_formats():
        if dtype == torch.float64 and not isinstance(fmt, (BlockFloat, MXFormat)):
            assert not supports(fmt, dtype)
            continue
        check(x, fmt, axis)


def test_blocks_longer_than_a_chunk():
    x = blocks(torch.float32).flatten()[:9000]
    x = x.nan_to_num(0.0, 1.0, 1.0)
    for shape in ((9000,), (2, 4500), (9000, 1), (3000, 3), (1, 2250, 4)):
        for fmt in (BlockFloat(8, 2500), MXFormat(E4M3, 4000), NVFP4(3000)):
            for axis in range(len(shape)):
                check(x.view(shape), fmt, axis)


def test_elements_without_mantissa_in_blocks():
    """The parity of an exponent code is that of the scaled element: against the definition."""
    x = blocks(torch.float32)[1:6].contiguous()
    for mode in MODES[:6]:
        fmt = MXFormat(FloatFormat(3, 0, specials="finite", rounding=mode), 8, "EVEN")
        expected = reference.round_values(x, fmt)
        for level in native.levels():
            native.set_isa(level)
            assert same(cast_into(x, fmt), expected)


ALL_KINDS = ["fp8_e4m3", "fixed(8, 4)", "posit(8, 1)", "mxfp4", "bfp(m=8, block=64)", "nvfp4"]
ALL_KINDS += ["nf4(block=64)", "fp8_e4m3(rounding=Stochastic)", "mxfp4(rounding=Stochastic(8))"]


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_fake_quantize(dtype, axis):
    generator = torch.Generator().manual_seed(4)
    x = (torch.randn(5, 33, 70, generator=generator) * 4).to(dtype)
    x.view(-1)[:5] = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-8]).to(dtype)
    shape = () if axis is None else (x.shape[axis],)
    scale = torch.rand(shape, generator=generator) / 8 + 0.01
    for name in ("int8", "uint8", "int4(affine)", "int16"):
        fmt = dv.format(name)
        assert isinstance(fmt, IntFormat)
        zero = torch.randint(-3, 4, shape, generator=generator, dtype=torch.int32)
        zero = zero.clamp(fmt.qmin, fmt.qmax) * int(fmt.affine)
        codes = quantize(x, fmt, scale, zero, axis)
        expected = dequantize(codes, scale, zero, axis, dtype)
        for level in native.levels():
            native.set_isa(level)
            y = fake_quantize(x, fmt, scale, zero, axis)
            assert same(y, expected)
        place = x.clone()
        assert fake_quantize(place, fmt, scale, zero, axis, out=place) is place
        assert same(place, expected)
    with pytest.raises(dv.DovetailError, match="2 scales for"):
        fake_quantize(x, IntFormat(4), torch.ones(2), torch.tensor(0), 0)
    with pytest.raises(dv.DovetailError, match="code range"):
        fake_quantize(x, IntFormat(4), torch.tensor(0.0), torch.tensor(0))


def test_tiny_tensors_in_nvfp4():
    x = torch.tensor([-9.1835e-41, 0.0, 1e-36])
    fmt = dv.format("nvfp4")
    for values in (x, x[:1], x[:2]):
        native_cast, portable = cast_into(values, fmt), in_torch(values, fmt)
        assert torch.equal(native_cast.view(torch.int32), portable.view(torch.int32))


REPORTED = [*ALL_KINDS, "SBFP12_16", "fp8_e5m2", "float(e=8, m=3, bias=140)", "mxint8"]
REPORTED += ["mxfp8_e4m3(mode=EVEN)", "fixed(8, 2, clamp=False)", "log(4, 3)", "fp4_e2m1fn"]


def _report_in_torch(x: Tensor, fmt: Format, axis: int, clip: bool) -> Report:
    report = Report(clip, count=True)
    report.fill(x, lambda v: inside(v, fmt, axis))
    return report


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reports_are_those_of_the_torch_form(dtype):
    """Mask and counts from the pass that rounds, which itself gives the same bits."""
    x = torch.cat(
        [blocks(dtype)[:9].flatten(), numbers(dtype)[:: 977 if dtype.itemsize > 2 else 7]]
    )
    x = x[: x.numel() // 60 * 60].view(-1, 6, 10)
    for name in REPORTED:
        fmt = dv.format(name)
        if not supports(fmt, dtype):
            continue
        for axis, clip in ((2, True), (0, True), (1, False)):
            expected = _report_in_torch(x, fmt, axis, clip)
            plain = cast_into(x, fmt, axis, SEED)
            for i, level in enumerate(native.levels()):
                native.set_isa(level)
                torch.set_num_threads(1 + i % 2)
                report, place = Report(clip, count=True), x.clone()
                assert same(cast_into(place, fmt, axis, SEED, place, report=report), plain), name
                assert torch.equal(report.inside, expected.inside), (name, level, axis, clip)
                assert torch.equal(report.counts, expected.counts), (name, level, axis, clip)


def test_a_report_lies_as_the_tensor_does():
    x, fmt = blocks(torch.float32)[2:8].mT, dv.format("mxfp4")
    report = Report()
    cast_into(x, fmt, 1, report=report)
    assert torch.equal(report.inside, inside(x, fmt, 1))
    cast_into(x[:0], fmt, 1, report=report)
    assert report.inside.shape == x[:0].shape


def test_bounds_between_two_floats():
    """Limits that no float32 is: bounds of blocks are those of real numbers."""
    x = torch.tensor([[1.0, 0.9999999, -1.0, 0.99999994, 0.25]]) * 2.0**100
    for fmt in (BlockFloat(24, 5), BlockFloat(2, 5), MXFormat(FixedFormat(30, 28), 5)):
        if not supports(fmt):
            continue
        report = Report()
        cast_into(x, fmt, report=report)
        assert torch.equal(report.inside, inside(x, fmt)), fmt
