"""Multipliers given as Python functions."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import dovetail.multipliers as dm
from dovetail.errors import DovetailError


def scalar_only(a, w):
    return a * w if a > 0 else max(a, w)


def wide_array(a, w):
    return (a & ~7) * (w & ~1)


def test_scalar_and_vectorised_functions_give_the_same_table():
    loop = dm.multiplier(lambda a, w: int(a) * w - (a & 1), bits=8)
    vector = dm.multiplier(lambda a, w: a * w - (a & 1), bits=8)
    assert loop == vector
    assert vector(-3, 5) == -16
    assert vector.name == "<lambda>"
    assert dm.multiplier(scalar_only, bits=6)(-3, 5) == 5


def test_a_function_that_means_something_else_on_arrays_is_called_pair_by_pair():
    m = dm.multiplier(lambda a, w: a * w + (1 if np.ndim(a) else 0), bits=4)
    assert m(0, 0) == 0


def test_operands_are_not_the_functions_to_change():
    def clobbers(a, w):
        product = a * w
        if isinstance(a, np.ndarray):
            a[...] = 0
        return product

    assert dm.multiplier(clobbers, bits=4).errors().wce == 0


def test_first_operand_comes_first():
    m = dm.multiplier(lambda a, w: a + 0 * w, bits=(3, 5), signed=False)
    assert m.table().shape == (8, 32)
    assert m(6, 31) == 6


def test_wide_functions_are_evaluated_not_tabulated():
    m = dm.multiplier(wide_array, bits=12)
    assert repr(m).startswith("function(sha256:")
    assert dm.multiplier(repr(m)) == m
    assert m([-2048, 100], [2047, 3]).tolist() == [-2048 * 2046, 96 * 2]
    assert m.max_abs == 2**24
    assert m.factors().rank == 1
    assert "sampled" not in m.errors().method
    assert pickle.loads(pickle.dumps(m)) == m
    wider = dm.multiplier(wide_array, bits=16, max_abs=2**30)
    assert wider.factors() is None
    assert wider != m
    with pytest.raises(DovetailError, match=r"tables stop at 12 \+ 12 bits"):
        wider.table()


def test_a_wide_product_beyond_the_bound_is_refused_when_it_occurs():
    with pytest.raises(DovetailError, match="beyond max_abs=100"):
        dm.multiplier(wide_array, bits=12, max_abs=100)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda a, w: a * w / 2, "returned float64"),
        (lambda a, w: str(a * w), "returned <U"),
        (lambda a: a, "fails on operands .* TypeError"),
        (lambda a, w: a * w // 0, "fails on operands .* ZeroDivisionError"),
    ],
)
def test_wrong_functions_teach(function, message):
    with pytest.raises(DovetailError, match=message):
        dm.multiplier(function)


def test_operands_are_checked():
    m = dm.multiplier("mul8s_1KV9")
    with pytest.raises(DovetailError, match=r"first .input. operand holds 128, outside -128..127"):
        m(128, 1)
    with pytest.raises(DovetailError, match=r"second .weight. operand holds -129"):
        m(1, np.array([0, -129]))
    with pytest.raises(DovetailError, match="dtype float64; a multiplier takes integer"):
        m(1.5, 1)
    with pytest.raises(DovetailError, match=r"holds -1, outside 0..255 of an unsigned 8-bit"):
        dm.multiplier("exact(bits=8, signed=False)")(-1, 1)
    assert m(np.zeros((0, 3), np.int8), 1).shape == (0, 3)
    assert m([], 1).shape == (0,)
