"""Native casts to integer formats: where they are taken, and that they change no bit."""

from __future__ import annotations

import pytest
import torch

import dovetail as dv
from dovetail.formats import IntFormat
from dovetail.formats.quantization import dequantize, quantize
from dovetail.formats.realise import integers
from dovetail.kernels import native, native_integers
from format_oracles import hostile, same_bits

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SPELLINGS = ["int8", "int8(affine)", "uint4", "int16", "int8(po2)", "int4(full, channel=1)"]
GROUPS = ["int4(group=5)", "int8(affine, group=3)", "uint4(group=4)", "int2(group=1)"]


@pytest.fixture
def portable(monkeypatch):
    """``dv.cast`` without registered kernels."""

    def cast(*args, **kwargs):
        with monkeypatch.context() as without:
            without.setattr(integers, "_kernels", [])
            return dv.cast(*args, **kwargs)

    return cast


@pytest.fixture(params=native.levels())
def level(request):
    native.set_isa(request.param)
    yield request.param
    native.set_isa(None)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_of_the_torch_form(portable, level, dtype):
    x = hostile(600, dtype, seed=1)[: 4 * 8 * 20].view(4, 8, 20)
    views = [x, x.mT, x[::2, :, 3:], x.permute(2, 0, 1), x[0, 0], x[:0]]
    for spelling in SPELLINGS + GROUPS:
        for view in views:
            if "channel=1" in spelling and view.dim() < 2:
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
    real = native_integers.fake_quantize
    monkeypatch.setattr(
        native_integers, "fake_quantize", lambda *a: (calls.append(len(a)), real(*a))[1]
    )
    x = torch.randn(4, 12)
    dv.cast(x, "int8")
    dv.cast(x, "int8(group=4)")
    assert calls == [7, 6]
    dv.cast(x.double(), "int8")
    torch.func.vmap(lambda v: dv.cast(v, "int8"))(x)
    torch.compile(lambda v: dv.cast(v, "int8"), backend="eager")(x)
    learned = torch.tensor(0.1, requires_grad=True)
    dv.cast(x, "int8", scale=learned).sum().backward()
    assert learned.grad is not None
    assert calls == [7, 6]


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
