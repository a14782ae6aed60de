"""Families against hand-computed cases and against definitions written another way."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dovetail.multipliers as dm
from dovetail._spelling import parse_call
from dovetail.errors import DovetailError
from dovetail.multipliers.operands import as_bits


@pytest.mark.parametrize(
    ("operand", "kept"),
    [
        (0, 0),
        (5, 5),  # below 2**3: kept
        (8, 10),  # 100|0 -> 101, shifted back
        (100, 112),  # 1100100 -> 110 -> 111 << 4
        (127, 112),  # 1111111 -> 111 << 4
        (-100, -112),
        (-128, -160),  # 10000000 -> 101 << 5
    ],
)
def test_drum_by_hand(operand, kept):
    assert dm.multiplier("drum(k=3, bits=8)")(operand, 1) == kept


def test_drum_by_hand_in_full():
    # 0b10110110 = 182 -> k=4: 1011 -> 1011 (lowest bit set) << 4 = 176; 0b1100 = 12 is kept.
    assert dm.multiplier("drum(k=4, bits=8, signed=False)")(182, 12) == 176 * 12
    assert dm.multiplier("drum", k=8, signed=False).errors().wce == 0


def test_drum_is_nearly_unbiased():
    errors = dm.multiplier("drum(k=6, bits=12, signed=False)").errors()
    assert abs(errors.bias) < 0.05 * errors.mae
    assert errors.mred < 0.02


def _mitchell(a: int, w: int) -> int:
    """The paper's formula in fractions."""
    if a == 0 or w == 0:
        return 0
    p, q = abs(a).bit_length() - 1, abs(w).bit_length() - 1
    x, y = Fraction(abs(a), 2**p) - 1, Fraction(abs(w), 2**q) - 1
    product = 2 ** (p + q) * (1 + x + y) if x + y < 1 else 2 ** (p + q + 1) * (x + y)
    assert product.denominator == 1
    return int(product) * (1 if (a < 0) == (w < 0) else -1)


@pytest.mark.parametrize(
    ("a", "w", "product"), [(3, 3, 8), (5, 6, 28), (127, 127, 16128), (-4, 9, -36), (0, 5, 0)]
)
def test_mitchell_by_hand(a, w, product):
    assert dm.multiplier("mitchell")(a, w) == product == _mitchell(a, w)


@given(st.integers(-(2**15), 2**15 - 1), st.integers(-(2**15), 2**15 - 1))
def test_mitchell_is_the_papers_formula(a, w):
    assert dm.multiplier("mitchell(bits=16)")(a, w) == _mitchell(a, w)


def test_mitchell_never_exceeds_the_product():
    """Its relative error lies between 0 and -1/9 (11.1 %)."""
    codes = np.arange(1, 256)
    product, exact = (
        dm.multiplier(f"{name}(bits=8, signed=False)")(codes[:, None], codes[None])
        for name in ("mitchell", "exact")
    )
    relative = (product - exact) / exact
    assert relative.max() == 0
    assert relative.min() == pytest.approx(-1 / 9, abs=1e-3)


def test_truncate_by_hand():
    m = dm.multiplier("truncate(bits=8, drop_first=2, drop_second=1)")
    assert m(7, 7) == 4 * 6
    assert m(-1, 7) == -4 * 6
    assert m(-128, -127) == -128 * -128


def test_broken_array_by_hand():
    # 3 * 3 = (0,0)1 + (0,1)2 + (1,0)2 + (1,1)4; columns 0 and 1 go, then row j = 0 as well.
    assert dm.multiplier("broken_array(bits=4, drop_columns=2, signed=False)")(3, 3) == 4
    assert dm.multiplier("broken_array(bits=4, drop_columns=0, drop_rows=1)")(3, 3) == 6
    assert dm.multiplier("broken_array(bits=4, drop_columns=0)").errors().wce == 0


def test_a_broken_array_is_in_the_catalogue():
    broken, circuit = dm.multiplier("broken_array(drop_columns=3)"), dm.multiplier("mul8s_1KV9")
    assert broken.mask == circuit.mask
    assert broken != circuit


CASES = [
    f"{name}(bits={bits}, signed={signed})"
    for name in ("exact", "truncate", "broken_array", "drum", "mitchell")
    for bits in (2, 3, 4, 6, "(4, 6)")
    for signed in (True, False)
]


@pytest.mark.parametrize("spelling", CASES)
def test_table_factors_bound_and_spelling_agree(spelling):
    name, _, given = parse_call(spelling)
    first, second = as_bits(given["bits"])
    extra = {"broken_array": ", drop_columns=2", "truncate": ", drop_second=1", "drum": ", k=2"}
    m = dm.multiplier(spelling[:-1] + extra.get(name, "") + ")")
    table = m.table().numpy()
    assert table.shape == (2**first, 2**second)
    assert m.max_abs == np.abs(table).max()
    assert dm.multiplier(repr(m)) == m
    factors = m.factors()
    assert factors is not None or name == "mitchell"
    if factors is not None:
        assert (factors.product() == table).all()


@pytest.mark.parametrize("name", ["truncate(drop_first=3", "drum(k=5", "broken_array(drop_rows=9"])
@pytest.mark.parametrize("signed", [True, False])
def test_wide_families_factor(name, signed):
    m = dm.multiplier(f"{name}, bits=16, signed={signed})")
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**16, (2, 2000))
    values = codes - ((codes >= 2**15) * 2**16 if signed else 0)
    factors = m.factors()
    products = m(values[0], values[1])
    assert np.array_equal(
        products, (factors.first[:, codes[0]] * factors.second[:, codes[1]]).sum(axis=0)
    )
    assert m.max_abs >= np.abs(products).max()


@pytest.mark.parametrize("bits", [12, 16])
def test_wide_mitchell(bits):
    m = dm.multiplier("mitchell", bits=bits)
    top = 2 ** (bits - 1)
    assert m.factors() is None
    assert m.max_abs == m(-top, -top) == top * top


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("drum(k=9)", "k=9; give a whole number from 2 to 8"),
        ("drum(k=1)", "k=1; give a whole number from 2 to 8"),
        ("drum(k=2.5)", "k=2.5; give a whole number"),
        ("drum(bits=17)", "bits=17 is not an operand width; give 2 to 16"),
        ("mitchell(bits=1)", "bits=1 is not an operand width; give 2 to 16"),
        ("mitchell(width=8)", r"unexpected keyword argument 'width'; parameters: \(bits=8, signed"),
        ("mitchell(8, signed=maybe)", "signed='maybe'; give True"),
        ("truncate(drop_first=9)", "drop_first=9; give a whole number from 0 to 8"),
        ("broken_array(drop_columns=16)", "drop_columns=16; give a whole number from 0 to 15"),
        ("array(mask=0x10000, bits=4)", "give 0 to 0xffff"),
        ("array(bits=4)", "missing a required argument: 'mask'"),
    ],
)
def test_wrong_parameters_teach(spelling, message):
    with pytest.raises(DovetailError, match=message):
        dm.multiplier(spelling)
