"""Writing the d-Matrix shorthand: lossless where it has a spelling, refused where it has none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail import DovetailError, format
from dovetail.formats import (
    BlockFloat,
    FixedFormat,
    FloatFormat,
    MXFormat,
    Rounding,
    Same,
    ScaledBlock,
    to_shorthand,
)
from dovetail.formats.rounding import SATURATIONS
from dovetail.formats.shorthand import aliases

UP, DOWN = Rounding("TowardPositive"), Rounding("TowardNegative")
RANDOM = Rounding("Stochastic", 24)


@pytest.mark.parametrize("alias", aliases())
def test_every_alias_is_written_and_read_back(alias):
    assert format(to_shorthand(alias)) == format(alias)


@pytest.mark.parametrize(
    "shorthand",
    [
        *("SAME", "XP[8,+4](CSN)", "XP[8,-2](_SD)", "XP[4,+0](__S)", "XP[24,+0](C_U)"),
        *("FP[1|4|3,7](_N)", "FP[0|4|4,10](FU)", "FP[1|5|10,15](FN)", "FP[1|8|23,127](_S)"),
        *("FP[1|4|3,-112](_N)", "FP[0|8|0,127](FN)"),
        *("BFP[8|8]{64}(SN)", "BFP[2|8]{1}(_D)", "BFP[24|8]{3,-1}(SS)", "BFP[4|8]{16,0}(_U)"),
        *("MXFP8[E4M3]{32}", "MXFP8[E5M2]{7,1}", "MXFP7[E3M3]{32}", "MXINT8{32}", "MXINT5{8,0}"),
        "SBFP<XP[4,+0](CSN)><FP[0|4|4,7](FN)>{16}",
        "SBFP<XP[6,+0](CSD)><FP[1|5|10,15](_U)>{8,1}",
    ],
)
def test_today_s_grammar_is_written_as_it_is_read(shorthand):
    assert to_shorthand(format(shorthand)) == shorthand


floats = st.builds(
    FloatFormat,
    st.integers(1, 9),
    st.integers(0, 24),
    bias=st.none() | st.integers(-130, 130),
    signed=st.booleans(),
    specials=st.sampled_from(["ieee", "finite", "fn"]),
    subnormals=st.booleans(),
    rounding=st.sampled_from([UP, DOWN, RANDOM, Rounding("ToOdd"), Rounding("NearestTiesToEven")]),
    saturation=st.sampled_from(SATURATIONS),
)
fixed = st.builds(
    FixedFormat,
    st.integers(2, 32),
    st.integers(-64, 128),
    symmetric=st.booleans(),
    clamp=st.booleans(),
    rounding=st.sampled_from([UP, DOWN, RANDOM, Rounding("NearestTiesToAway")]),
)


@st.composite
def formats(draw):
    """Formats of every kind that the shorthand has, most of which it cannot spell."""
    block = {"block": draw(st.integers(1, 300)), "axis": draw(st.none() | st.integers(-9, 9))}
    make = draw(st.sampled_from(["element", "bfp", "mx", "scaled"]))
    try:
        if make == "bfp":
            return BlockFloat(draw(st.integers(2, 24)), symmetric=draw(st.booleans()), **block)
        element = draw(floats | fixed)
        if make == "mx":
            return MXFormat(element, mode=draw(st.sampled_from(["FLOOR", "CEIL"])), **block)
        return ScaledBlock(draw(fixed), draw(floats), **block) if make == "scaled" else element
    except DovetailError:
        return Same()


@given(formats())
def test_what_is_written_is_lossless_and_the_rest_refused(fmt):
    try:
        assert format(to_shorthand(fmt)) == fmt
    except DovetailError as error:
        message = str(error)
    else:
        return
    assert f"'{fmt}' has no d-Matrix spelling; the nearest is '" in message
    assert isinstance(format(message.split("'")[3]), type(fmt))


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("fp8_e4m3fn", "nearest is 'FP[1|4|3,7](_N)', which is 'float(e=4, m=3, specials=finite)'"),
        ("mxfp4(mode=RCEIL)", "nearest is 'MXFP4[E2M1]{32}', which is 'mxfp4'"),
        ("bfp(m=8, rounding=ToOdd)", "nearest is 'BFP[8|8]{64}(SN)'"),
        ("int8", "nearest is 'XP[8,+0](CSN)', which is 'fixed(8, 0, symmetric)'"),
        ("fixed(32, 4)", "nearest is 'XP[24,+4](C_N)'"),
        ("nvfp4", "that grammar has fixed, floating, block floating"),
        ("posit(8, 1)", "that grammar has"),
        ("mxpf4", "did you mean 'mxfp4'"),
    ],
)
def test_what_the_shorthand_cannot_say(spelling, message):
    with pytest.raises(DovetailError) as caught:
        to_shorthand(spelling)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("oldest", "today"),
    [
        ("FP[1|8|23](N)", "FP[1|8|23,127](_N)"),
        ("FP[1|4|3](N)", "FP[1|4|3,7](_N)"),
        ("FP[1|5|2](FS)", "FP[1|5|2,15](FS)"),
        ("BFP[4|8]{128,-1}(N)", "BFP[4|8]{128,-1}(SN)"),
        ("BFP[4|8]{128}(S)", "BFP[4|8]{128}(SS)"),
    ],
)
def test_the_oldest_spellings(oldest: str, today: str) -> None:
    assert format(oldest) == format(today)
