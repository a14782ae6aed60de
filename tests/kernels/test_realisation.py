"""The register of realisations, and the planner that chooses from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dovetail as dv
from dovetail.kernels import using
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.realisation import MacKernel, Operands, _register, sum_dtype
from dovetail.kernels.reference import sums
from helpers import CIRCUITS, conv_loop, linear_loop, random_codes, random_table

BYTES = Operands((-128, 127), (-128, 127))


@pytest.fixture
def own():
    """A user's realisation that adds one to every sum, and holds for one multiplier only."""
    table = random_table(77)

    class PlusOne(MacKernel):
        name = "plus-one"

        def __init__(self, mul, operands):
            self.mul = mul

        def pack(self, w, geometry):
            return w

        def sums(self, a, packed, geometry, pad_code):
            return sums(a, packed, self.mul, geometry, pad_code) + 1

    decorate = dv.register_realisation(
        "mac", when=lambda mul, _: mul == table, cost=lambda *_: 1e-9, name="plus-one"
    )
    decorate(PlusOne)
    yield table
    del _register["plus-one"]


def test_a_users_realisation_runs_where_it_holds_and_is_cheapest(own):
    a, w = random_codes((2, 3)), random_codes((4, 3), seed=1)
    assert torch.equal(dv.ops.linear_codes(a, w, own).long(), linear_loop(a, w, own) + 1)
    assert torch.equal(dv.ops.linear_codes(a, w, "exact").long(), a.long() @ w.long().mT)
    with using("reference"):
        assert torch.equal(dv.ops.linear_codes(a, w, own).long(), linear_loop(a, w, own))


def test_forcing_one_that_does_not_hold_is_refused(own):
    a = random_codes((2, 3))
    with using("plus-one"), pytest.raises(dv.DovetailError) as raised:
        dv.ops.linear_codes(a, a, "exact")
    assert "no realisation 'plus-one' of mac holds for mul=exact" in str(raised.value)


def test_the_innermost_choice_counts_and_is_undone_after_an_error():
    mul = dv.multiplier("mul8s_1L2H@v1.1")

    def fail():
        with using("reference"):
            assert plan_mac(mul, BYTES).name == "reference"
            with using("torch-products"):
                assert plan_mac(mul, BYTES).name == "torch-products"
            assert plan_mac(mul, BYTES).name == "reference"
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        fail()
    assert plan_mac(mul, BYTES).name != "reference"


def test_the_planner_gives_the_same_kernel_for_the_same_question():
    mul = dv.multiplier("mul8s_1L2H@v1.1")
    assert plan_mac(mul, BYTES) is plan_mac(dv.multiplier("mul8s_1L2H@v1.1"), BYTES)


@pytest.mark.parametrize("name", CIRCUITS)
def test_every_circuit_has_a_fast_plan(name):
    mul = dv.multiplier(name)
    operands = BYTES if mul.signed else Operands((0, 255), (0, 255))
    assert plan_mac(mul, operands).name not in ("reference", "torch-products")


def test_another_op_is_refused():
    with pytest.raises(dv.DovetailError, match="unknown op to realise 'mak'; did you mean 'mac'"):
        dv.register_realisation("mak", when=lambda *_: True, cost=lambda *_: 1.0)


def test_bounds():
    assert BYTES.bound(dv.multiplier("exact")) == 128 * 128
    assert Operands((0, 5), (-3, 2)).bound(dv.multiplier("exact")) == 15
    assert BYTES.bound(dv.multiplier(np.full((256, 256), -7))) == 7
    assert sum_dtype(2**31 - 1) == torch.int32
    assert sum_dtype(2**31) == torch.int64


def test_the_reference_is_the_definition():
    mul = random_table(3)
    a, w = random_codes((2, 5)), random_codes((3, 5), seed=1)
    from dovetail.kernels.geometry import LINEAR, Geometry

    assert torch.equal(sums(a, w, mul, LINEAR), linear_loop(a, w, mul))
    x, v = random_codes((1, 2, 4, 4)), random_codes((2, 1, 2, 3), seed=1)
    g = Geometry.conv(2, stride=(1, 2), padding=[(0, 1), (2, 0)], groups=2)
    how = {"stride": (1, 2), "padding": [(0, 1), (2, 0)], "groups": 2, "pad_code": 3}
    assert torch.equal(sums(x, v, mul, g, 3), conv_loop(x, v, mul, **how))
