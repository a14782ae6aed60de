"""``decode(encode(x))`` has the bits of ``cast(x)``: every format, dtype and axis."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dovetail import DovetailError, cast, format
from dovetail.formats import BlockFormat, IntFormat, format_examples, reference
from dovetail.formats.codes import Codes, decode, encode
from format_oracles import hostile, same_bits

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
MORE = [
    "bf16(saturation=SatFinite)",
    "fp8_e4m3fn(saturation=SatNone)",
    "fp8_e5m2(saturation=SatPropagate)",
    "float(e=4, m=3, subnormals=False)",
    "float(e=9, m=3)",
    "float(e=11, m=52)",
    "binary8p3se",
    "binary8p4uf",
    "binary15p8ue",
    "FP[0|8|0,127](FN)",
    "fixed(12, 4, symmetric)",
    "fixed(32, 20)",
    "fixed(7, -3, signed=False)",
    "bfp(m=2, block=3)",
    "bfp(m=12, block=16)",
    "bfp(m=24, block=5)",
    "bfp(m=8, block=4, symmetric=False)",
    "mxfp8_e5m2(block=5, mode=RCEIL)",
    "mxfp4(mode=CEIL, block=7)",
    "mxint8(block=4, symmetric=False)",
    "mxfp6_e2m3(block=8, mode=EVEN)",
    "mxfp4(block=1000000)",
    "nvfp4(block=5)",
    "nf4(block=6)",
    "log(8, 8)",
    "log(3, 2, signed=False)",
    "posit(16, 2)",
    "SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{4}",
    "scaled(table(-1.0, 5.0), fp16, block=4)",
    "scaled(log(3, 2), bf16, block=4)",
    "scaled(posit(6), fp8_e4m3fn, block=3)",
    "table(1.0, 2.0, 3.0)",
    "bfp(m=4, block=3, rounding=ToOdd)",
    "mxfp8_e4m3(block=3, rounding=TowardPositive)",
    "fp6_e3m2fn(rounding=NearestTiesToAway)",
    "int8(affine)",
    "int5(full)",
    "uint3(symmetric)",
    "int8(po2)",
    *("int8(group=4)", "int5(affine, group=7)", "uint4(group=1)", "int3(po2, group=100)"),
]
SPELLINGS = [s for s in format_examples() if s != "shaped" and not s.startswith("shaped(")] + MORE


def encodable(x: Tensor, spelling: str) -> Tensor:
    """``x`` without what the format refuses."""
    try:
        encode(x, spelling)
    except DovetailError as error:
        if "NaN" not in str(error):
            raise
        return x.nan_to_num()
    return x


def shaped(count_of: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    values = hostile(2000, dtype, seed)
    finite = values[values.isfinite()]
    n = math.prod(count_of)
    return finite.repeat(n // finite.numel() + 1)[:n].view(count_of)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_bits_of_the_cast(spelling: str) -> None:
    for dtype in DTYPES:
        plain = encodable(hostile(3000, dtype, 1), spelling)
        assert same_bits(decode(encode(plain, spelling)), cast(plain, spelling)), dtype
        for shape in ((3, 37, 5), (1, 130), (64, 3)):
            x = shaped(shape, dtype, len(shape))
            for axis in (*range(len(shape) - 1), -1):
                y = decode(encode(x, spelling, axis))
                assert same_bits(y, cast(x, spelling, axis)), (dtype, shape, axis)


@pytest.mark.parametrize(
    "spelling", ["mxfp4(block=8)", "nvfp4", "bfp(m=4, block=7)", "nf4(block=3)"]
)
def test_damaged_blocks_are_nan_and_the_others_are_not(spelling: str) -> None:
    x = torch.randn(5, 48)
    x[0, 3], x[2, 40], x[4, 0] = math.nan, math.inf, -math.inf
    y = decode(encode(x, spelling))
    assert same_bits(y, cast(x, spelling))
    assert y.isnan().any()
    assert not y[1].isnan().any()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_empty_tensors(spelling: str) -> None:
    for shape in ((0,), (0, 4), (4, 0), (2, 0, 3)):
        codes = encode(torch.empty(shape), spelling)
        assert decode(codes).shape == shape
        assert codes.codes.numel() == 0


@pytest.mark.parametrize("spelling", ["fp8_e4m3fn", "mxfp4(block=8)", "int8", "nvfp4", "posit(8)"])
def test_any_strides(spelling: str) -> None:
    x = torch.randn(6, 10, 16)
    for view in (x.mT, x[::2, :, 3:14], x.permute(2, 0, 1), x[0, 0].expand(4, 16)):
        for axis in range(view.dim()):
            assert same_bits(decode(encode(view, spelling, axis)), cast(view, spelling, axis))


@pytest.mark.parametrize(
    "spelling", ["fp4_e2m1fn", "mxfp6_e3m2", "bfp(m=5, block=9)", "nf4(block=16)"]
)
def test_more_than_is_worked_on_at_a_time(spelling: str) -> None:
    x = torch.randn(1000, 601)
    for axis in (0, 1):
        assert same_bits(decode(encode(x, spelling, axis)), cast(x, spelling, axis))
    flat = x.flatten()
    assert same_bits(decode(encode(flat, spelling)), cast(flat, spelling))


@pytest.mark.parametrize(
    "element", ["fp8_e4m3fn", "mxfp4", "bfp(m=6, block=11)", "nvfp4", "fixed(8, 4)"]
)
def test_stochastic_rounding_takes_the_same_random_bits(element: str) -> None:
    joint = "," if "(" in element else "("
    spelling = element.rstrip(")") + f"{joint}rounding=Stochastic(16))"
    for shape, axis in (((700, 601), 0), ((700, 601), 1)):
        x = torch.randn(shape)
        y = cast(x, spelling, axis, generator=torch.Generator().manual_seed(5))
        codes = encode(x, spelling, axis, generator=torch.Generator().manual_seed(5))
        assert same_bits(decode(codes), y)


@settings(max_examples=60)
@given(
    st.sampled_from(SPELLINGS),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from(DTYPES),
    st.integers(0, 2**31),
    st.data(),
)
def test_round_trip(
    spelling: str, shape: list[int], dtype: torch.dtype, seed: int, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = hostile(max(math.prod(shape), 40), dtype, seed)
    x = x[torch.randperm(x.numel())[: math.prod(shape)]]
    x = x.repeat(math.prod(shape))[: math.prod(shape)].view(shape)
    x = encodable(x, spelling)
    codes = encode(x, spelling, axis)
    y = decode(Codes.from_dict(codes.to_dict()))
    assert same_bits(y, cast(x, spelling, axis))
    width = codes.format.bits if spelling != "same" else 8 * x.element_size()
    assert codes.codes.numel() == -(-x.numel() * width // 8)


def test_mx_by_hand() -> None:
    # OCP MX: 7 -> scale 2**0, 6 saturated; E8M0 is the exponent plus 127; E2M1 1.0 is 0010
    codes = encode(torch.tensor([1.0, 0.5, 7.0, -5.0]), "mxfp4(block=4)")
    assert codes.codes.tolist() == [0x12, 0xE7]
    assert codes.scales is not None
    assert codes.scales.tolist() == [127]
    assert codes.element_codes().tolist() == [2, 1, 7, 14]
    nan = encode(torch.tensor([math.nan, 1.0, 2.0]), "mxint8(block=2)")
    assert nan.scales is not None
    assert nan.scales.tolist() == [255, 128]
    assert nan.codes.tolist() == [0, 0, 64]


def test_bfp_by_hand() -> None:
    # mantissas in two's complement times 2**(e - 6), the exponent e of the largest plus 127
    codes = encode(torch.tensor([1.0, 0.5, 127 / 128, -1.0]), "bfp(m=8, block=4)")
    assert codes.codes.tolist() == [64, 32, 64, 256 - 64]
    assert codes.scale_codes().tolist() == [127]  # type: ignore[union-attr]


def test_nvfp4_by_hand() -> None:
    x = torch.zeros(32)
    x[0], x[16] = 6.0 * 448.0, 6.0
    codes = encode(x, "nvfp4")
    assert codes.tensor_scale is not None
    assert codes.scales is not None
    assert codes.tensor_scale.tolist() == 1.0
    assert codes.scales.tolist() == [0x7E, 0x38]  # UE4M3: 448 and 1
    assert codes.element_codes()[[0, 16]].tolist() == [7, 7]


def test_scaled_blocks_store_the_scale_formats_codes() -> None:
    codes = encode(torch.tensor([1.0, 0.5, 7.0, -5.0]), "SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{4}")
    assert codes.codes.tolist() == [0x01, 0xB7]
    assert codes.scales is not None
    assert codes.scales.tolist() == [7 << 4]  # 1.0 = 0111 0000
    wide = encode(torch.randn(3, 10), "nf4(block=4)")
    assert wide.scales is not None
    assert wide.scales.numel() == 3 * 3 * 4  # float32 scales, little endian


def test_integers_by_hand() -> None:
    codes = encode(torch.tensor([1.27, -1.27, 0.01]), "int8")
    assert codes.codes.tolist() == [127, 256 - 127, 1]
    assert codes.scales is not None
    assert codes.scales.dtype == torch.float32
    assert codes.zero_points is None
    affine = encode(torch.tensor([-1.0, 0.0, 2.0]), "uint4")
    assert affine.zero_points is not None
    assert affine.zero_points.tolist() == 5
    assert affine.codes.tolist() == [0x50, 0x0F]


@pytest.mark.parametrize(
    "spelling", ["int4", "int8(affine)", "uint8", "int12", "int16(po2)", "uint16"]
)
def test_integers_per_channel_and_with_a_given_scale(spelling: str) -> None:
    x = torch.randn(6, 5)
    for channel in (0, 1, -1):
        y = decode(codes := encode(x, spelling, channel=channel))
        assert same_bits(y, cast(x, spelling, channel=channel))
        assert codes.axis == channel % 2
        assert codes.scales is not None
        assert codes.scales.shape == (x.shape[channel],)
    assert same_bits(decode(encode(x, spelling, scale=0.125)), cast(x, spelling, scale=0.125))
    if format(spelling).affine:  # type: ignore[attr-defined]
        given = {"scale": torch.tensor(0.25), "zero_point": 3}
        assert same_bits(decode(encode(x, spelling, **given)), cast(x, spelling, **given))


def test_groups_store_a_scale_each() -> None:
    x = torch.randn(6, 4, 10)
    codes = encode(x, "int4(group=4)", 2)
    assert (codes.axis, codes.scale_shape) == (2, (6, 4, 3))
    assert codes.scales is not None
    assert tuple(codes.scales.shape) == (6, 4, 3)
    assert codes.nbytes == 6 * 4 * 10 // 2 + 6 * 4 * 3 * 4
    alone = encode(x[5, 3, 8:], "int4")
    assert codes.scales[5, 3, 2] == alone.scales
    assert codes.element_codes()[5, 3, 8:].tolist() == alone.element_codes().tolist()
    wide = torch.randn(64, 128)
    assert encode(wide, "int4(group=32)").bits_per_element == 5.0
    assert encode(wide, "uint4(group=32)").bits_per_element == 6.0  # with zero points
    for spelling in ("int4(group=32)", "uint4(group=32)"):
        per_element = format(spelling).bytes_per_element
        assert encode(wide, spelling).bits_per_element == 8 * per_element


@pytest.mark.parametrize("spelling", ["int4(group=4)", "int8(affine, group=4)", "uint4(group=4)"])
def test_groups_with_given_scales(spelling: str) -> None:
    x = torch.randn(3, 10)
    scales = torch.rand(3, 3) + 0.1
    for scale in (0.25, scales):
        codes = encode(x, spelling, scale=scale)
        assert same_bits(decode(codes), cast(x, spelling, scale=scale))
        assert codes.scales is not None
        assert codes.scales.shape == (3, 3)
    if "symmetric" not in spelling and spelling != "int4(group=4)":
        zero = torch.full((3, 3), 2)
        codes = encode(x, spelling, scale=scales, zero_point=zero)
        assert same_bits(decode(codes), cast(x, spelling, scale=scales, zero_point=zero))


def test_damaged_groups_are_refused() -> None:
    saved = encode(torch.randn(3, 10), "int8(affine, group=4)").to_dict()
    for name, message in (("scales", r"\(3,\) scales"), ("zero_points", r"\(3,\) zero points")):
        with pytest.raises(DovetailError, match=message):
            Codes.from_dict({**saved, name: saved[name][:, 0]})
    with pytest.raises(DovetailError, match="the axis of its blocks is missing"):
        Codes.from_dict({**saved, "axis": None})


@pytest.mark.parametrize("dtype", DTYPES)
def test_nvfp4_with_a_given_tensor_scale(dtype: torch.dtype) -> None:
    x = hostile(300, dtype, 3).nan_to_num()
    for scale in (0.01, 1.0, 2.0**-120, 2.0**117, torch.tensor(3.7)):
        whole = torch.as_tensor(scale)
        y = cast(x, "nvfp4", scale=scale)
        assert same_bits(y, reference.round_values(x, format("nvfp4"), scale=whole.item())), scale
        codes = encode(x, "nvfp4", scale=scale)
        assert codes.tensor_scale == whole
        assert same_bits(decode(codes), y)
    own = encode(x, "nvfp4")
    assert same_bits(cast(x, "nvfp4", scale=own.tensor_scale), cast(x, "nvfp4"))
    assert encode(x[:0], "nvfp4", scale=0.5).tensor_scale == 0.5


@pytest.mark.parametrize(
    "spelling",
    [
        *("mxfp8_e5m2(block=8)", "mxfp6_e3m2(block=8)", "mxfp6_e2m3(block=8)", "mxfp4(block=8)"),
        *("mxint8(block=8)", "mxint6(block=8)", "bfp(m=8, block=8)", "bfp(m=16, block=8)"),
        # FLOOR asks for a scale in which E4M3, whose last mantissa is NaN, ends at 448 of 480.
        "mxfp8_e4m3(block=8, mode=RCEIL)",
    ],
)
def test_every_scale_under_random_elements_is_read_and_written(spelling: str) -> None:
    """All 256 scale codes; what they and any elements stand for is encoded without loss."""
    fmt = format(spelling)
    assert isinstance(fmt, BlockFormat)
    sample = encode(torch.zeros(256, 64, dtype=torch.float64), spelling)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, sample.codes.shape, generator=generator).to(torch.uint8)
    scales = torch.arange(256).repeat_interleave(8).to(torch.uint8)
    value = decode(replace(sample, codes=codes, scales=scales))
    lowest = 1 if "bfp" in spelling else 0  # the exponent of BFP starts at -126
    assert bool(value[255].isnan().all())
    known = value[lowest:255]
    factor = 2.0 ** (torch.arange(lowest, 255).double() - 127)[:, None]
    whole = known.isfinite().all(1)  # E4M3 and E5M2 have NaN, E5M2 codes for infinity
    # The lowest two's-complement code, which symmetric formats leave out, is clamped.
    inside = known.clamp(fmt.element.min * factor, fmt.element.max * factor)[whole]
    assert same_bits(decode(encode(inside, spelling)), inside)


def test_nan_of_integers_becomes_zero_where_that_is_asked_for() -> None:
    x = torch.tensor([math.nan, 1.0, -2.0, math.inf])
    assert same_bits(decode(encode(x, "int8", nan="zero")), cast(x, "int8"))
    with pytest.raises(
        DovetailError, match=r"'int8' has no code for NaN, and 1 of 4 values is NaN"
    ):
        encode(x, "int8")


def test_what_has_no_code_is_refused() -> None:
    x = torch.tensor([math.nan, math.nan, 1.0])
    for spelling in ("fp4_e2m1fn", "fixed(8, 4)", "nf4", "log(4, 3)", "SBFP12_16"):
        with pytest.raises(DovetailError, match=r"no code for NaN, and 2 of 3 .*nan='zero'"):
            encode(x, spelling)
        assert decode(encode(x, spelling, nan="zero"))[:2].tolist() == [0.0, 0.0]
    with pytest.raises(DovetailError, match="block that holds NaN or an infinity, and 1 of the 2"):
        encode(torch.tensor([1.0] * 16 + [math.inf]), "SBFP12_16")
    with pytest.raises(DovetailError, match=r"codes from -128.0 to 127.0, and 2 of 3 .*clamp=True"):
        encode(torch.tensor([127.5, 0.0, math.inf]), "XP[8,0](__N)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fmt": "int9x"}, "did you mean 'int9'"),
        ({"fmt": "mxfp4", "axis": 2}, r"axis=2 of 'mxfp4' is not an axis .* 2 dimensions"),
        ({"fmt": "mxfp4", "scale": 1.0}, "finds its own scale; scale= belongs to formats"),
        ({"fmt": "int8", "channel": 5}, "channel=5 is not an axis"),
        ({"fmt": "int8", "scale": 0.0}, "must be positive and finite"),
        ({"fmt": "int8", "zero_point": 1}, "a zero_point needs its scale"),
        ({"fmt": "int8", "scale": 1.0, "zero_point": 1}, r"symmetric .* 'int8\(affine\)'"),
        ({"fmt": "int8", "nan": "drop"}, "unknown nan 'drop'"),
        ({"fmt": "int8(group=2)", "channel": 0}, "channel=0 excludes it"),
        ({"fmt": "int8(group=2)", "scale": torch.ones(2)}, r"has \(2, 2\) groups along axis 1"),
        ({"fmt": "uint8", "scale": 1.0, "zero_point": 300}, "no code of 'uint8', which has 0..255"),
        ({"fmt": "nvfp4", "scale": torch.ones(3)}, r"one scale for the tensor, not \(3,\)"),
        ({"fmt": "nvfp4", "scale": 2.0**-121}, r"lies in 2\*\*-120..2\*\*117"),
        ({"fmt": "nvfp4", "zero_point": 1}, "zero_point= belongs to integer formats"),
        ({"fmt": "shaped(mxfp4, permute=(1, 0))"}, "no codes of its own"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        encode(torch.ones(2, 3), **arguments)  # type: ignore[arg-type]


def test_integer_tensors_are_refused() -> None:
    with pytest.raises(DovetailError, match=r"not torch.int64: use x.float\(\)"):
        encode(torch.tensor([1, 2]), "int8")


def test_an_infinite_element_from_elsewhere_stays_infinite() -> None:
    codes = encode(torch.ones(2), "mxfp8_e5m2").to_dict()
    codes["codes"] = torch.tensor([0x7C, 0xFC], dtype=torch.uint8)
    assert decode(Codes.from_dict(codes)).tolist() == [math.inf, -math.inf]


def test_gradients_do_not_pass() -> None:
    x = torch.randn(4, requires_grad=True)
    assert not decode(encode(x, "mxfp4")).requires_grad


def test_the_examples_of_every_kind_are_covered() -> None:
    kinds = {type(format(s)) for s in SPELLINGS}
    assert {IntFormat} < kinds
    assert sum(issubclass(kind, BlockFormat) for kind in kinds) == 4
