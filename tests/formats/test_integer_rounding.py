"""Every rounding mode of integer formats: the quotient by the scale is rounded."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dovetail as dv
from dovetail.formats import FixedFormat, IntFormat
from dovetail.formats.quantization import dequantize, quantize
from dovetail.formats.realise import integers, ranged
from dovetail.formats.reference import philox
from dovetail.formats.rounding import Rounding
from dovetail.kernels import native
from format_oracles import MODES, hostile, same_bits, with_mode

ALL = (*MODES, "Stochastic(1)", "Stochastic(8)", "Stochastic(24)")
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
LEVELS = native.levels() if native.available() else [None]


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def words(count: int, generator: torch.Generator) -> list[int]:
    """Those that a cast of ``count`` values draws from the generator."""
    seed = torch.randint(0, 1 << 62, (), dtype=torch.int64, generator=generator)
    return philox(count, int(seed))


def code_of(x: float, fmt: IntFormat, scale: float, zero: int, word: int, wide: type) -> int:
    """One code by the definition: a quotient of floats, then exact fractions."""
    if math.isnan(x):
        return zero
    with np.errstate(all="ignore"):
        quotient = float(wide(x) / wide(np.float32(scale)))
    if math.isinf(quotient):
        return fmt.qmax if quotient > 0 else fmt.qmin
    q, mode = Fraction(quotient), fmt.rounding
    below, above = math.floor(q), math.ceil(q)
    inner, outer = (below, above) if q >= 0 else (above, below)
    share = abs(q - inner)
    name = mode.name
    if below == above:
        step = below
    elif name == "NearestTiesToEven":
        step = round(q)
    elif name == "NearestTiesToAway":
        step = outer if share >= Fraction(1, 2) else inner
    elif name == "ToOdd":
        step = below if below % 2 else above
    elif name == "Stochastic":
        draw, one = word >> (32 - mode.bits), 2 ** (mode.bits + 1)
        step = outer if math.floor(share * one) + 2 * draw + 1 >= one else inner
    else:
        step = {"TowardZero": inner, "TowardPositive": above, "TowardNegative": below}[name]
    return min(max(step + zero, fmt.qmin), fmt.qmax)


@pytest.fixture(params=LEVELS)
def level(request):
    if request.param is not None:
        native.set_isa(request.param)
    yield request.param
    if request.param is not None:
        native.set_isa(None)


@pytest.mark.parametrize("mode", ALL)
@pytest.mark.parametrize(
    ("name", "scale", "zero"),
    [
        ("int8", 0.1, 0),
        ("int8(full)", 1 / 3, 0),
        ("int8(affine)", 0.037, -5),
        ("uint8", 2.5, 131),
        ("uint4(symmetric)", 0.7, 0),
        ("int16", 1e-3, 0),
        ("uint16", 3e-3, 40000),
        ("int2", 1e-30, 0),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_codes_by_the_definition(mode, name, scale, zero, dtype):
    fmt = dv.format(with_mode(name, rounding=mode))
    steps = torch.arange(-70, 70).double() * 0.25 * scale
    x = torch.cat([hostile(60, torch.float64, 1), steps]).to(dtype)
    given_ = {"scale": scale, "zero_point": zero if fmt.affine else None}
    wide = np.float64 if dtype == torch.float64 else np.float32
    drawn = words(x.numel(), seeded()) if fmt.rounding.is_stochastic else [0] * x.numel()
    expected = [
        code_of(v, fmt, scale, zero, w, wide) for v, w in zip(x.tolist(), drawn, strict=True)
    ]
    codes = dv.encode(x, fmt, nan="zero", generator=seeded(), **given_).element_codes()
    sign = fmt.signed << (fmt.bits - 1)
    found = torch.where(x.isnan(), zero, (codes.long() ^ sign) - sign)
    assert found.tolist() == expected
    y = dv.cast(x, fmt, generator=seeded(), **given_)
    real = dequantize(torch.tensor(expected), torch.tensor(scale), torch.tensor(zero), None, dtype)
    assert same_bits(y, real)


@pytest.mark.parametrize("mode", ALL)
@pytest.mark.parametrize("fraction", [0, 4, 7, 30])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_with_a_power_of_two_it_is_fixed_point(level, mode, fraction, dtype):
    x = torch.cat([hostile(3000, dtype, 2), torch.arange(-600, 600).to(dtype) / 8 * 2.0**-fraction])
    x = x[~x.isnan()]  # fixed point keeps NaN
    for name, symmetric in (("int8", True), ("int8(full)", False), ("int5", True)):
        fmt = dv.format(with_mode(name, rounding=mode))
        fixed = FixedFormat(fmt.bits, fraction, symmetric=symmetric, rounding=Rounding.parse(mode))
        ours = dv.cast(x, fmt, scale=2.0**-fraction, generator=seeded())
        assert same_bits(ours, dv.cast(x, fixed, generator=seeded()))


@pytest.fixture
def portable(monkeypatch):
    """``dv.cast`` without registered kernels."""

    def cast(*args, **kwargs):
        with monkeypatch.context() as without:
            without.setattr(integers, "_kernels", [])
            without.setattr(ranged, "_kernels", [])
            return dv.cast(*args, **kwargs)

    return cast


SPELLINGS = ["int8", "int8(affine)", "uint4", "int16", "int8(po2)", "int4(full, channel=1)"]
SPELLINGS += ["uint8(symmetric, channel=-1)", "int12(affine, channel=0)", "int4(group=200)"]
SPELLINGS += ["int8(group=16)", "int8(affine, group=3)", "uint4(group=4)", "int4(po2, group=7)"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", ["NearestTiesToAway", "TowardZero", "ToOdd", "Stochastic(8)"])
def test_own_scales_have_the_bits_of_the_torch_form(portable, level, dtype, mode):
    x = hostile(400, dtype, seed=1)[: 4 * 8 * 20].view(4, 8, 20)
    views = [x, x.mT, x[::2, :, 3:], x[:0]]
    for spelling in SPELLINGS:
        name = with_mode(spelling, rounding=mode)
        for view in views:
            for axis in (0, 2) if "group" in spelling else (None,):
                expected = portable(view, name, axis, generator=seeded())
                assert same_bits(dv.cast(view, name, axis, generator=seeded()), expected), name
                held = view.clone()
                dv.cast(held, name, axis, out=held, generator=seeded())
                assert same_bits(held, expected), name


@pytest.mark.parametrize("mode", ALL)
def test_given_scales(portable, level, mode):
    x = hostile(600, torch.float32, seed=2)[:640].view(4, 8, 20)
    for spelling in ("int8", "uint8", "int4(group=4)", "int4(affine, group=8)"):
        fmt = dv.format(with_mode(spelling, rounding=mode))
        shape = (8,) if fmt.group is None else (4, 8, -(-20 // fmt.group))
        where = {"channel": 1} if fmt.group is None else {}
        for scale in (0.1, 1e-40, 3e38, torch.rand(shape, generator=seeded()) + 0.01):
            given_ = {"scale": scale, "zero_point": 3 if fmt.affine else None, **where}
            ours, theirs = (
                cast(x, fmt, generator=seeded(), **given_) for cast in (dv.cast, portable)
            )
            assert same_bits(ours, theirs)
            codes = dv.encode(x, fmt, nan="zero", generator=seeded(), **given_)
            assert same_bits(dv.decode(codes), ours)


def test_scales_are_those_of_nearest():
    x = torch.randn(6, 8, generator=seeded())
    for spelling in ("int8", "int8(affine, channel=0)", "int8(po2)", "int4(group=4)"):
        plain = dv.encode(x, spelling)
        for mode in ("TowardZero", "Stochastic(8)"):
            codes = dv.encode(x, with_mode(spelling, rounding=mode))
            assert torch.equal(codes.scales, plain.scales)
            assert codes.zero_points is None or torch.equal(codes.zero_points, plain.zero_points)


def test_stochastic_rounding_is_unbiased_and_depends_on_seed_and_place_alone(level):
    x = torch.full((1 << 16,), 0.3)
    y = dv.cast(x, "int4(rounding=Stochastic)", scale=1.0, generator=seeded())
    assert abs(float(y.mean()) - 0.3) < 4 * math.sqrt(0.21 / x.numel())
    assert torch.equal(y, dv.cast(x, "int4(rounding=Stochastic)", scale=1.0, generator=seeded()))
    assert not torch.equal(y, dv.cast(x, "int4(rounding=Stochastic)", scale=1.0))
    square = dv.cast(
        x.view(256, 256).mT, "int4(rounding=Stochastic)", scale=1.0, generator=seeded()
    )
    assert torch.equal(square, y.view(256, 256))
    torch.manual_seed(3)
    first = dv.cast(x, "int4(rounding=Stochastic)", scale=1.0)
    torch.manual_seed(3)
    torch.set_num_threads(1)
    assert torch.equal(first, dv.cast(x, "int4(rounding=Stochastic)", scale=1.0))
    torch.set_num_threads(2)


@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=30),
    st.sampled_from(MODES),
    st.booleans(),
)
def test_directed_modes_bracket_and_are_monotone(values, mode, affine):
    x = torch.tensor(values).sort().values
    fmt = IntFormat(6, affine=affine, rounding=Rounding(mode))
    scale, zero = torch.tensor(0.37), torch.tensor(3 if affine else 0)
    codes = quantize(x, fmt, scale, zero).int()
    assert bool((codes.diff() >= 0).all())
    low, high = (
        quantize(x, IntFormat(6, affine=affine, rounding=Rounding(m)), scale, zero).int()
        for m in ("TowardNegative", "TowardPositive")
    )
    assert bool(((low <= codes) & (codes <= high) & (high - low <= 1)).all())


@pytest.mark.parametrize("mode", ["TowardPositive", "Stochastic(8)"])
def test_gradients_are_those_of_nearest(mode):
    given_ = {"scale": 0.5}
    for spelling, where in (("int4", given_), ("int4", {}), ("int4(group=2)", {})):
        grads = []
        for name in (spelling, with_mode(spelling, rounding=mode)):
            x = torch.tensor([0.3, -9.0, 3.7, 3.6, 0.0, 9.0], requires_grad=True)
            dv.cast(x, name, **where).sum().backward()
            grads.append(x.grad)
        assert torch.equal(*grads)
    learned = torch.tensor(0.5, requires_grad=True)
    dv.cast(
        torch.tensor([0.3, 0.6]), "int4(rounding=TowardPositive)", scale=learned
    ).sum().backward()
    assert float(learned.grad) == 3.0


@pytest.mark.parametrize("mode", ["ToOdd", "Stochastic(8)"])
def test_compiled_and_mapped_casts_have_the_same_bits(mode):
    x = hostile(200, torch.float32, 3)[:480].view(8, 60)
    for name in ("int8", "int8(affine, channel=0)", "int4(group=7)"):
        name = with_mode(name, rounding=mode)
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda v, n=name: dv.cast(v, n), fullgraph=True, backend="aot_eager"
        )
        torch.manual_seed(1)
        expected = dv.cast(x, name)
        torch.manual_seed(1)
        assert same_bits(compiled(x), expected)
    plain = "int8(rounding=ToOdd)"
    mapped = torch.func.vmap(lambda v: dv.cast(v, plain, scale=0.1))(x)
    assert same_bits(mapped, dv.cast(x, plain, scale=0.1))


def test_spelling():
    for name in ("int8(rounding=TowardZero)", "uint8(rounding=Stochastic(8))"):
        assert str(dv.format(name)) == name
    fmt = dv.format("int4(affine, group=32, rounding=ToOdd)")
    assert fmt == dv.format(repr(fmt)) != dv.format("int4(affine, group=32)")
    assert dv.format("int8(rounding=NearestTiesToEven)") == dv.format("int8")
    for wrong, message in (
        ("int8(rounding=nearest)", "did you mean 'NearestTiesTo"),
        ("int8(rounding=Stochastic(25))", "nearest is 'Stochastic(24)'"),
        ("int8(rouding=ToOdd)", "did you mean 'rounding'"),
    ):
        with pytest.raises(dv.DovetailError) as caught:
            dv.format(wrong)
        assert message in str(caught.value)
    with pytest.raises(dv.DovetailError, match=r"nearest is 'XP\[8,\+0\]\(CSS\)'"):
        dv.formats.to_shorthand("int8(rounding=Stochastic)")
