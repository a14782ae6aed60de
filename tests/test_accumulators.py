from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dovetail as dv
from dovetail.accumulators import Accumulator

sums = st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=8)


@given(st.integers(8, 64), st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=12))
def test_wrapping_at_each_step_is_wrapping_at_the_end(bits, products):
    half, register = 1 << (bits - 1), 0
    for product in products:
        register = (register + product + half) % (2 * half) - half
    total = torch.tensor([sum(products)])
    assert Accumulator(bits).reduce(total).tolist() == [register]


@given(st.integers(8, 64), sums)
def test_saturation_at_the_end_is_a_clamp(bits, values):
    half = 1 << (bits - 1)
    got = Accumulator(bits, "saturate", "end").reduce(torch.tensor(values))
    assert got.tolist() == [max(-half, min(half - 1, v)) for v in values]


@given(st.integers(8, 64), st.integers(0, 2**63 - 1), st.sampled_from(["wrap", "saturate"]))
def test_what_holds_is_left_alone(bits, bound, overflow):
    register = Accumulator(bits, overflow, "end")
    if register.holds(bound):
        both = torch.tensor([bound, -bound])
        assert torch.equal(register.reduce(both), both)


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("int32", "int32"),
        ("int24(wrap)", "int24"),
        ("int24(wrap, end)", "int24"),
        ("int16(saturate, end)", "int16(saturate, end)"),
        ("int16(overflow=saturate, when=end)", "int16(saturate, end)"),
        ("int64", "int64"),
    ],
)
def test_spellings(spelling, canonical):
    register = dv.accumulator(spelling)
    assert repr(register) == canonical
    assert dv.accumulator(repr(register)) == register
    assert dv.accumulator(register) is register
    assert pickle.loads(pickle.dumps(register)) == register
    assert copy.deepcopy(register) == register
    assert hash(dv.accumulator(canonical)) == hash(register)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dv.accumulator("int7"), "accumulator 'int7': 8 to 64 bits; nearest 'int8'"),
        (lambda: dv.accumulator("int65"), "accumulator 'int65': 8 to 64 bits; nearest 'int64'"),
        (lambda: dv.accumulator("imt32"), "unknown accumulator 'imt32'; did you mean 'int32'?"),
        (
            lambda: dv.accumulator("int16(saturate)"),
            "saturates at each step, which no realisation supports; the nearest that is: "
            "'int16(saturate, end)'",
        ),
        (lambda: dv.accumulator("int16(clamp)"), "unknown argument in 'int16(clamp)': 'clamp'"),
        (
            lambda: dv.accumulator("int16(over=wrap)"),
            "unknown argument in 'int16(over=wrap)': 'over'",
        ),
        (lambda: dv.accumulator("int16", overflow="wrop"), "did you mean 'wrap'?"),
        (lambda: dv.accumulator("int16", when="last"), "unknown accumulator 'when' 'last'"),
        (lambda: dv.accumulator(32), "an accumulator is a spelling such as 'int32', not 32"),
        (lambda: dv.accumulator("int32("), "cannot read"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(dv.DovetailError) as raised:
        make()
    assert message in str(raised.value)
