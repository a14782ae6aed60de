"""Native casts to integer formats: where they are taken, and that they change no bit."""

from __future__ import annotations

import math

import pytest
import torch

import dovetail as dv
from dovetail.formats import IntFormat
from dovetail.formats.grid import Grid
from dovetail.formats.quantization import dequantize, observed_range, quantize
from dovetail.formats.realise import Report, integers, ranged
from dovetail.kernels import native, native_integers
from format_oracles import hostile, same_bits

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SPELLINGS = ["int8", "int8(affine)", "uint4", "int16", "int8(po2)", "int4(full, channel=1)"]
SPELLINGS += ["int8(channel=0)", "int12(affine, channel=0)", "uint8(symmetric, channel=-1)"]
GROUPS = ["int4(group=2000)", "int8(group=16)", "int8(po2, group=7)", "int4(group=5)"]
GROUPS += ["int8(affine, group=3)", "uint4(group=4)", "int2(group=1)"]


@pytest.fixture
def portable(monkeypatch):
    """``dv.cast`` without registered kernels."""

    def cast(*args, **kwargs):
        with monkeypatch.context() as without:
            without.setattr(integers, "_kernels", [])
            without.setattr(ranged, "_kernels", [])
            return dv.cast(*args, **kwargs)

    return cast


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_of_the_torch_form(portable, level, dtype):
    x = hostile(600, dtype, seed=1)[: 4 * 8 * 20].view(4, 8, 20)
    views = [x, x.mT, x[::2, :, 3:], x.permute(2, 0, 1), x[0, 0], x[:0]]
    for spelling in SPELLINGS + GROUPS:
        for view in views:
            if "channel=" in spelling and view.dim() < 2:
                continue
            for axis in range(view.dim()):
                expected = portable(view, spelling, axis)
                assert same_bits(dv.cast(view, spelling, axis), expected), (spelling, axis)
                out = torch.full_like(view, 7.0)
                assert dv.cast(view, spelling, axis, out=out) is out
                assert same_bits(out, expected)
                held = view.clone()
                assert dv.cast(held, spelling, axis, out=held) is held
                assert same_bits(held, expected)


@pytest.mark.parametrize("spelling", ["int8", "uint8", "int4(group=4)", "int4(affine, group=8)"])
def test_given_scales(portable, spelling):
    x = hostile(600, torch.float32, seed=2)[:640].view(4, 8, 20)
    fmt = dv.format(spelling)
    zero = 3 if fmt.affine else None
    groups = None if fmt.group is None else (4, 8, -(-20 // fmt.group))
    shape = (8,) if groups is None else groups
    scales = torch.rand(shape, generator=torch.Generator().manual_seed(3)) + 0.01
    for scale in (0.1, 1e-40, 3e38, scales):
        where = {"channel": 1} if groups is None else {}
        given = {"scale": scale, "zero_point": zero, **where}
        assert same_bits(dv.cast(x, spelling, **given), portable(x, spelling, **given))


def test_where_the_core_is_taken(monkeypatch):
    calls = []
    for name in ("fake_quantize", "_in_runs"):
        real = getattr(native_integers, name)
        monkeypatch.setattr(
            native_integers, name, lambda *a, f=real, n=name: (calls.append(n), f(*a))[1]
        )
    x = torch.randn(4, 12)
    dv.cast(x, "int8")
    dv.cast(x, "int8(channel=0)")
    dv.cast(x, "int8(channel=1)")
    dv.cast(x, "int8(group=4)")
    dv.cast(x, "int8(group=4)", scale=0.5)
    expected = ["fake_quantize", "_in_runs", "fake_quantize", "_in_runs", "fake_quantize"]
    assert calls == expected
    dv.cast(x.double(), "int8")
    torch.func.vmap(lambda v: dv.cast(v, "int8"))(x)
    torch.compile(lambda v: dv.cast(v, "int8"), backend="eager")(x)
    learned = torch.tensor(0.1, requires_grad=True)
    dv.cast(x, "int8", scale=learned).sum().backward()
    assert learned.grad is not None
    assert calls == expected


def test_finite_values_stay_finite(portable):
    """The widest ranges there are: neither their width nor their scale overflows."""
    top = torch.finfo(torch.float32).max
    x = torch.tensor([top, -top, 1.0, 0.0])
    for spelling in ("int8(affine)", "uint8", "int2", "int2(affine)", "int4(po2)", "int8(group=2)"):
        y = dv.cast(x, spelling)
        assert bool(y.isfinite().all()), spelling
        assert same_bits(y, portable(x, spelling))
        wide = dv.cast(torch.tensor([1e300, -1e300, 1.0], dtype=torch.float64), spelling)
        assert bool(wide.isfinite().all()), spelling


def test_a_scale_that_only_torch_broadcasts():
    x, fmt = torch.randn(4, 6), IntFormat(8)
    scale, zero = torch.rand(1, 6) + 0.1, torch.zeros(1, 6, dtype=torch.int32)
    expected = dequantize(quantize(x, fmt, scale, zero), scale, zero)
    assert same_bits(integers.round_integers(x, fmt, scale, zero), expected)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_reports(level, dtype):
    x = hostile(600, dtype, seed=4)[: 4 * 8 * 20].view(4, 8, 20)
    x = torch.where(x.abs() > 1e6, x.sign() * 3, x)
    for spelling in SPELLINGS + GROUPS:
        fmt = dv.format(spelling)
        for clip in (True, False):
            given = fmt.group is None
            scale = torch.tensor(0.013) if given else torch.full((4, 8, -(-20 // fmt.group)), 0.013)
            zero = torch.zeros_like(scale, dtype=torch.int32)
            for own in (True, False):
                results = []
                for portable_ in (True, False):
                    report = Report(clip, count=True)
                    with pytest.MonkeyPatch.context() as patch:
                        if portable_:
                            patch.setattr(integers, "_kernels", [])
                            patch.setattr(ranged, "_kernels", [])
                        if own:
                            axis = 2 if fmt.group is not None else None
                            channel = None if fmt.channel is None else fmt.channel % 3
                            y = ranged.round_by_range(x, fmt, axis, channel, None, report)
                        elif given:
                            y = integers.round_integers(x, fmt, scale, zero, None, None, report)
                        else:
                            y = ranged.round_groups(x, fmt, Grid(scale, zero, 2), None, report)
                    results.append((y, report))
                (y, one), (z, two) = results
                assert same_bits(y, z), spelling
                assert torch.equal(one.inside, two.inside), (spelling, own, clip)
                assert torch.equal(one.counts, two.counts), (spelling, own, clip)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_ranges(level, dtype):
    x = hostile(9000, dtype, seed=5)[: 6 * 50 * 41].view(6, 50, 41)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for view in (x, x[:1], x.mT, x[:, ::2, 3:], x.abs() + 1, x[0, 0]):
            for axis in (None, *range(view.dim())):
                for ours, reference in zip(
                    native_integers.range_of(view, axis), observed_range(view, axis), strict=True
                ):
                    assert torch.equal(ours, reference), (view.shape, axis)


def test_groups_of_whole_registers(level, portable):
    """Groups of 16 to 160 values: of tame numbers, with NaN, and with infinities here and there."""
    x = torch.randn(7, 960, generator=torch.Generator().manual_seed(7))
    x[1, ::5], x[2, 3], x[3, ::7] = math.nan, math.inf, -math.inf
    x[4], x[5] = x[4].abs() + 1, x[5] * 3e38
    x[6, ::2] = -0.0
    for rows in (x, x[:2], x[:1], x[2:4]):
        for size in (16, 32, 64, 96, 160):
            for kind in ("int8", "int8(affine", "uint8", "int4(po2"):
                head = kind if "(" in kind else f"{kind}("
                spelling = f"{head}{', ' if head[-1] != '(' else ''}group={size})"
                assert same_bits(dv.cast(rows, spelling), portable(rows, spelling)), spelling


def test_long_channels_and_quotients_next_to_ties(level):
    """Channels cast in one go and in two; values within a few last places of half a step."""
    steps = torch.arange(-127.5, 128.0, 1.0)
    for scale in (0.1, 1 / 3, 1e-30, 3e30, 0.7071068):
        x = steps * torch.tensor(scale)
        for _ in range(3):
            x = torch.cat([x, x.nextafter(torch.tensor(1e38)), x.nextafter(torch.tensor(-1e38))])
        for name in ("int8", "uint8", "int4", "int12"):
            fmt, zero = dv.format(name), torch.tensor(0)
            s = torch.tensor(scale)
            expected = dequantize(quantize(x, fmt, s, zero), s, zero)
            y = native_integers.fake_quantize(x, fmt, torch.tensor(scale), zero)
            assert same_bits(y, expected), (name, scale)
    long = torch.randn(2, 150_000, generator=torch.Generator().manual_seed(6))
    for part in (long, long[:, :5000]):
        expected = torch.cat([dv.cast(row, "int8") for row in part]).view_as(part)
        assert same_bits(dv.cast(part, "int8", channel=0), expected)
