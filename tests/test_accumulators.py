"""Accumulators as values: spellings, and one addition after another against the definition."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dovetail as dv
from dovetail.accumulators.reference import accumulate, add

sums = st.lists(st.integers(-(2**62), 2**62 - 1), min_size=1, max_size=8)
SPELLINGS = {
    "int32": "int32",
    "int24(wrap)": "int24",
    "int24(wrap, end)": "int24",
    "int24(tree, chunk=8)": "int24",
    "int16(saturate)": "int16(saturate)",
    "int16(saturate, each, sequential)": "int16(saturate)",
    "int16(saturate, end)": "int16(saturate, end)",
    "int16(saturate, end, tree)": "int16(saturate, end)",
    "int16(overflow=saturate, when=end)": "int16(saturate, end)",
    "int16(saturate, tree)": "int16(saturate, order=tree)",
    "int20(saturate, chunk=16, order=tree)": "int20(saturate, chunk=16, order=tree)",
    "int20(saturate, order=chunk(16))": "int20(saturate, order=chunk(16))",
    "int64": "int64",
    "fp32": "fp32",
    "fp16(each)": "fp16",
    "fp16(end)": "fp16(end)",
    "bf16(chunk=64)": "bf16(chunk=64)",
    "bf16(order=chunk(64))": "bf16(order=chunk(64))",
    "fp16(tree, rounding=ToOdd)": "fp16(rounding=ToOdd, order=tree)",
    "fp8_e4m3(end, rounding=TowardZero)": "fp8_e4m3fn(end, rounding=TowardZero)",
    "float(e=6, m=9)": "float(e=6, m=9)",
    "FP[1|5|10,15](FN)": None,
    "loa(bits=16, low=6)": "loa(bits=16, low=6)",
    "eta(bits=20, low=8, chunk=4, order=chunk(2))": "eta(bits=20, low=8, chunk=4, order=chunk(2))",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings(spelling):
    acc, canonical = dv.accumulator(spelling), SPELLINGS[spelling]
    assert canonical is None or repr(acc) == canonical
    assert dv.accumulator(repr(acc)) == acc
    assert dv.accumulator(acc) is acc
    assert pickle.loads(pickle.dumps(acc)) == acc
    assert copy.deepcopy(acc) == acc
    assert hash(dv.accumulator(repr(acc))) == hash(acc)
    assert dv.Arithmetic.parse(dv.Arithmetic(acc=acc).spelling).acc == acc


def test_keywords_and_files_say_the_same_as_the_text():
    wanted = dv.accumulator("int16(saturate, order=tree)")
    assert dv.accumulator("int16", overflow="saturate", when="each", order="tree") == wanted
    options = {"format": "int16", "overflow": "saturate", "order": "tree"}
    assert dv.rule("*", acc=options).fields["acc"] == wanted
    assert dv.accumulator(dv.format("bf16"), chunk=64) == dv.accumulator("bf16(chunk=64)")
    assert dv.accumulator("loa", bits=16, low=6) == dv.accumulator("loa(bits=16, low=6)")


def test_any_callable_is_an_adder():
    def or_adder(register, product):
        return register | product

    acc = dv.accumulator(or_adder, bits=12, order="tree")
    assert dv.accumulator(repr(acc)) == acc
    assert acc.add(torch.tensor([5, -1]), torch.tensor([2, 0])).tolist() == [7, -1]
    assert dv.accumulator(lambda s, p: s | p, bits=12, order="tree") == acc
    assert dv.accumulator(lambda s, p: s & p, bits=12, order="tree") != acc
    assert accumulate([1, 2, 4], acc) == 7


@given(st.integers(8, 64), st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=12))
def test_wrapping_at_each_step_is_wrapping_at_the_end(bits, products):
    acc = dv.accumulator(f"int{bits}")
    assert acc.reduce(torch.tensor([sum(products)])).tolist() == [accumulate(products, acc)]


@given(st.integers(8, 64), sums)
def test_saturation_at_the_end_is_a_clamp(bits, values):
    acc = dv.accumulator(f"int{bits}(saturate, end)")
    assert acc.reduce(torch.tensor(values)).tolist() == [accumulate([v], acc) for v in values]


ADDING = [
    dv.accumulator(s)
    for s in (
        *("int8", "int64", "int16(saturate)", "int62(saturate)", "int63(saturate)"),
        *("int64(saturate)", "loa(bits=16, low=6)", "loa(bits=9, low=1)"),
        *("truncated(bits=20, low=7)", "eta(bits=24, low=12)", "eta(bits=62, low=61)"),
    )
]


@pytest.mark.parametrize("acc", ADDING, ids=str)
@given(data=st.data())
def test_integer_addition_is_the_definition(acc, data):
    top = 2 ** (acc.bits - 1)
    register = data.draw(st.integers(-top, top - 1))
    product = data.draw(st.integers(-(2**62), 2**62))
    got = acc.add(torch.tensor([register]), torch.tensor([product]))
    assert got.tolist() == [add(acc, register, product)]
    over = acc.exceeds(torch.tensor([register]), torch.tensor([product]))
    if acc.bits < 63 and not hasattr(acc, "low"):
        assert over.tolist() == [not -top <= register + product < top]


FLOATING = [
    dv.accumulator(s)
    for s in (
        *("fp32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "float(e=8, m=3)", "tf32"),
        *("float(e=10, m=50)", "float(e=5, m=0)", "bf16(rounding=TowardZero)"),
        *("fp16(rounding=NearestTiesToAway)", "fp16(rounding=TowardNegative)"),
        "bf16(rounding=ToOdd)",
    )
]
numbers = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 2.0**-149, 65504.0, -(2.0**-25)])


def same(x: float, y: float) -> bool:
    return (math.isnan(x) and math.isnan(y)) or (
        x == y and math.copysign(1, x) == math.copysign(1, y)
    )


@pytest.mark.parametrize("acc", FLOATING, ids=str)
@given(first=numbers, a=numbers, b=numbers)
def test_a_floating_point_sum_is_rounded_once(acc, first, a, b):
    """The product has up to 48 bits, far from the register's: rounding twice would be seen."""
    register = dv.cast(torch.tensor([first], dtype=torch.float64), acc.format)
    got = acc.add(register, torch.tensor([a * b], dtype=torch.float64)).item()
    assert same(got, add(acc, register.item(), a * b))


def test_the_adders_of_the_papers_by_hand():
    loa = dv.accumulator("loa(bits=8, low=4)")
    # low 1011 | 1001 = 1011, carry 1 & 1; high 0001 + 0010 + 1
    assert accumulate([0b0001_1011, 0b0010_1001], loa) == 0b0100_1011
    eta = dv.accumulator("eta(bits=8, low=4)")
    # low 0110, 0011: differ, then at bit 2 differ, at bit 1 both one: from there all ones
    assert accumulate([0b0001_0110, 0b0010_0011], eta) == 0b0011_0111
    truncated = dv.accumulator("truncated(bits=8, low=4)")
    assert accumulate([0b0001_1111, 0b0010_1111], truncated) == 0b0011_0000


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        # 100 + 100 clamps to 127; -100 -100 to -128
        ("sequential", 127 - 100 - 100),
        ("tree", -1),
        ("chunk(3)", (127 - 100) - 100),
    ],
)
def test_the_orders_by_hand(order, wanted):
    acc = dv.accumulator("int8", overflow="saturate", order=order)
    assert accumulate([100, 100, -100, -100], acc) == wanted


def test_chunks_are_summed_wide():
    assert accumulate([100, 100, -100, 1], dv.accumulator("int8(saturate, chunk=4)")) == 101
    assert accumulate([100, 100, -100, 1], dv.accumulator("int8(saturate, chunk=2)")) == 28
    assert accumulate([2048, 1, 1, 1], dv.accumulator("fp16(chunk=2)")) == 2050.0
    assert accumulate([2048, 1, 1, 1], dv.accumulator("fp16")) == 2048.0


@given(st.integers(8, 64), st.integers(0, 2**63 - 1), st.sampled_from(["wrap", "saturate"]))
def test_what_holds_is_left_alone(bits, bound, overflow):
    acc = dv.accumulator(f"int{bits}", overflow=overflow, when="end")
    if acc.holds(bound):
        both = torch.tensor([bound, -bound])
        assert torch.equal(acc.reduce(both), both)


@given(st.sampled_from(FLOATING), st.integers(0, 2**26))
def test_integers_that_a_floating_point_register_holds_are_left_alone(acc, bound):
    if acc.holds(bound):
        for x in (bound, bound - 1, -bound, bound // 2):
            assert add(acc, 0, x) == x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dv.accumulator("int7"), "accumulator 'int7': 8 to 64 bits; nearest 'int8'"),
        (lambda: dv.accumulator("int65"), "accumulator 'int65': 8 to 64 bits; nearest 'int64'"),
        (lambda: dv.accumulator("imt32"), "unknown accumulator 'imt32'; did you mean 'int32'?"),
        (lambda: dv.accumulator("int16(clamp)"), "unknown argument in 'int16(clamp)': 'clamp'"),
        (lambda: dv.accumulator("int16(over=1)"), "unknown argument in 'int16(over=1)': 'over'"),
        (lambda: dv.accumulator("int16", overflow="wrop"), "did you mean 'wrap'?"),
        (lambda: dv.accumulator("int16", when="last"), "unknown accumulator 'when' 'last'"),
        (lambda: dv.accumulator("int16", order="trie"), "did you mean 'tree'?"),
        (lambda: dv.accumulator("int16", order="chunk(0)"), "a chunk has 1 or more products"),
        (lambda: dv.accumulator("fp16(chunk=0)"), "a chunk has 1 or more products"),
        (lambda: dv.accumulator("fp16(chunk(8))"), "write chunk=64 for wide sums"),
        (lambda: dv.accumulator("int16(saturate)", overflow="wrap"), "overflow is given twice"),
        (lambda: dv.accumulator("fp16(saturate)"), "accumulator 'fp16' has no overflow="),
        (lambda: dv.accumulator("fp16(end, tree)"), "leave out order and chunk"),
        (lambda: dv.accumulator("mxfp4"), "an integer or a floating-point register, not 'mxfp4'"),
        (lambda: dv.accumulator("fp16(rounding=Stochastic)"), "the nearest is 'fp16'"),
        (lambda: dv.accumulator("float(e=11, m=52)"), "the nearest is 'fp32'"),
        (lambda: dv.accumulator("loa(bits=16)"), "loa needs low=, such as low=6"),
        (lambda: dv.accumulator("loa(bits=16, low=16)"), "1 to 15 low bits; nearest 'low=15'"),
        (lambda: dv.accumulator("eta(bits=64, low=3)"), "8 to 62 bits"),
        (lambda: dv.accumulator("eta(bits=16, low=3, saturate)"), "cannot read"),
        (lambda: dv.accumulator("eta(saturate, bits=16, low=3)"), "has no overflow="),
        (lambda: dv.accumulator("function(sha256:12, bits=16)"), "this process has not made"),
        (lambda: dv.accumulator(max), "dv.accumulator(<callable>, bits=16)"),
        (lambda: dv.accumulator(lambda s, p: s / 2, bits=16), "one integer for each pair"),
        (lambda: dv.accumulator(np.bitwise_or, bits=7), "nearest 'int8'"),
        (lambda: dv.accumulator(dv.accumulator("int8"), when="end"), "is complete"),
        (lambda: dv.accumulator(32), "an accumulator is a spelling such as 'int32', not 32"),
        (lambda: dv.accumulator("int32("), "cannot read"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(dv.DovetailError) as raised:
        make()
    assert message in str(raised.value)
