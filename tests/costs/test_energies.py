"""Energy, area and delay against cases computed by hand from the published figures."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.costs.operands import Float, Integer
from dovetail.costs.operations import Operations, interpolated
from dovetail.costs.tables import tables_for

# 64 inputs, 8 outputs, a batch of 2: 1024 products
MACS = 2 * 64 * 8


def priced(rule=None, node=None, tables=None, model=None, example=None):
    model = nn.Linear(64, 8) if model is None else model
    example = torch.zeros(2, 64) if example is None else example
    recipe = dv.Recipe(*([] if rule is None else [rule]))
    return dv.cost(dv.plan(model, recipe, example), tables=tables, node=node)


@pytest.mark.parametrize(
    ("rule", "node", "multiply", "add"),
    [
        # M. Horowitz, ISSCC 2014
        (None, 45, 3.7, 0.9),
        (dv.rule(input="fp16", weight="fp16", acc="fp16"), 45, 1.1, 0.4),
        (dv.rule(input="fp16", weight="fp16", acc="fp32"), 45, 1.1, 0.9),
        (dv.rule(input="int8", weight="int8", acc="int32"), 45, 0.2, 0.1),
        # 16 + 16 partial products: half of int8's 64; 20 bits between 8 and 32
        (dv.rule(input="int8", weight="int4", acc="int20"), 45, 0.1, 0.03 + 0.07 / 2),
        # an exact sum of 64 products of 8 + 8 bits has 22
        (dv.rule(input="int8", weight="int8"), 45, 0.2, 0.03 + 0.07 * 14 / 24),
        # N. P. Jouppi et al., ISCA 2021
        (None, 7, 1.31, 0.38),
        (dv.rule(input="bf16", weight="bf16", acc="fp32"), 7, 0.21, 0.38),
        (dv.rule(input="int8", weight="int8", acc="int32"), 7, 0.07, 0.03),
        # the catalogue: 0.345 mW * 1.42 ns of 0.425 * 1.48, whatever the node
        (dv.rule(input="int8", weight="int8", acc="int32", mul="mul8s_1KV9"), 7, None, 0.03),
        # sums of four, 18 bits wide, then one addition in the register
        (
            dv.rule(input="int8", weight="int8", acc="int32(saturate, chunk=4)"),
            45,
            0.2,
            0.75 * (0.03 + 0.07 * 10 / 24) + 0.25 * 0.1,
        ),
        # an or gate is a seventh of a full adder
        (
            dv.rule(input="int8", weight="int8", acc="loa(bits=24, low=8)"),
            45,
            0.2,
            0.03 + 0.07 * 8 / 24 + 0.03 / 7,
        ),
    ],
)
def test_products_and_sums(rule, node, multiply, add):
    row = priced(rule, node)["."]
    if multiply is None:
        facts = dv.multiplier("mul8s_1KV9").cost, dv.multiplier("exact").cost
        multiply = 0.07 * facts[0].energy_pj / facts[1].energy_pj
    assert row.macs == MACS
    assert row.multiply_pj == pytest.approx(MACS * multiply)
    assert row.accumulate_pj == pytest.approx(MACS * add)
    assert row.energy_pj == pytest.approx(MACS * (multiply + add))
    assert not row.missing


def test_a_float_product_is_that_of_its_significands_and_a_rest():
    ops = Operations(tables_for(None, 7))
    per_bit = 0.07 / 64  # of int8
    # fp8_e4m3: 4 x 4 bits; the rest by the significand's bits from bf16's: 0.21 - 0.07
    found = ops.multiply(Float(4, 4), Float(4, 4)).energy_pj
    assert found == pytest.approx(16 * per_bit + 0.14 * 4 / 8)
    assert ops.multiply(Float(8, 8), Float(8, 8)).energy_pj == 0.21
    slope = (1.48 - 0.07) / (1024 - 64)
    fp16_rest = 0.34 - (0.07 + (121 - 64) * slope)
    nine = ops.multiply(Float(5, 9), Float(5, 9)).energy_pj
    expected = 0.07 + (81 - 64) * slope + 0.14 + (fp16_rest - 0.14) / 3
    assert nine == pytest.approx(expected)


def test_an_approximate_significand_saves_its_share_of_the_integer_part():
    mul = dv.multiplier("truncate", drop_first=2, format="bf16")
    rule = dv.rule(input="bf16", weight="bf16", mul=mul)
    row = priced(rule, 7)["."]
    share = 304 / 424 * mul.mantissa.cost.delay_ns / dv.multiplier("mul8u_1JJQ").cost.delay_ns
    assert row.multiply_pj == pytest.approx(MACS * (0.07 * share + 0.14))
    assert row.relative == pytest.approx((0.07 * share + 0.14) / 0.21)


def test_blocks():
    # mxint8: 8 x 8 bits; inside a block of 32 a sum of 8 + 8 + 5 bits; each block one addition of
    # 8-bit exponents and one in float32
    row = priced(dv.rule(input="mxint8", weight="mxint8"))["."]
    inside = 31 / 32 * (0.03 + 0.07 * 13 / 24)
    assert row.multiply_pj == pytest.approx(MACS * 0.2)
    assert row.accumulate_pj == pytest.approx(MACS * (inside + (0.9 + 0.03) / 32))
    # a convolution's blocks run over its channels, tap by tap
    net, x = nn.Conv2d(4, 2, 3), torch.zeros(1, 4, 5, 5)
    conv = priced(dv.rule(input="mxint8", weight="mxint8"), model=net, example=x)["."]
    inside = 3 / 4 * (0.03 + 0.07 * 10 / 24)
    assert conv.accumulate_pj == pytest.approx(conv.macs * (inside + (0.9 + 0.03) / 4))


def test_area_and_delay():
    found = priced(dv.rule(input="int8", weight="int8", acc="int32"))
    assert found["."].area_um2 == 282 + 137
    assert found.delay_ns == dv.multiplier("exact").cost.delay_ns
    found = priced(dv.rule(input="int8", weight="int8", acc="int32", mul="mul8s_1L2H@v1.1"))
    measured = dv.multiplier("mul8s_1L2H@v1.1").cost
    share = measured.area_um2 / dv.multiplier("exact").cost.area_um2
    assert found.area_um2 == pytest.approx(282 * share + 137)
    assert found.delay_ns == measured.delay_ns
    assert priced(node=7).area_um2 is None
    assert priced().delay_ns is None


def test_memory_is_the_smallest_that_holds_each_tensor():
    row = priced(dv.rule(input="int8", weight="int8", output="int8"))["."]
    # 512 weights, 128 inputs, 16 outputs, each a byte in 8 KB
    assert row.memory_pj == pytest.approx((512 + 128 + 16) * 1.25)
    big, x = nn.Linear(1024, 1024, bias=False), torch.zeros(1, 1024)
    row = priced(model=big, example=x)["."]
    assert row.memory_pj == pytest.approx((1 << 22) * 162.5 + 2 * 4096 * 1.25)


def test_dropped_weights_cost_nothing():
    dense = priced(dv.rule(input="int8", weight="int8", acc="int32"))
    sparse = priced(dv.rule(input="int8", weight="int8", acc="int32", sparsity="2:4"))
    assert sparse.energy_pj == pytest.approx(dense.energy_pj / 2)
    assert "products of dropped weights are skipped" in sparse.assumptions


def test_what_no_rule_changes_is_counted_as_torch_computes_it():
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    rule = dv.rule("0", input="int8", weight="int8", acc="int32")
    found = priced(rule, model=net, example=torch.zeros(1, 8))
    assert found["0"].energy_pj == pytest.approx(64 * 0.3)
    assert found["2"].energy_pj == pytest.approx(16 * 4.6)
    assert found.energy_pj == pytest.approx(64 * 0.3 + 16 * 4.6)
    assert found.relative == 1.0
    assert found.uncounted == (
        "1 relu: declare 'functions: {relu: <pJ per output element>}' in a table",
    )


def test_elementwise_additions_and_products():
    class Net(nn.Module):
        def forward(self, x):
            return (x + x) * x

    rule = dv.rule(op="add", input="fp16", other="fp16")
    found = priced(rule, model=Net(), example=torch.zeros(3, 5))
    assert found[".:add"].energy_pj == pytest.approx(15 * 0.4)
    assert found[".:mul"].energy_pj == pytest.approx(15 * 3.7)


def test_unknown_multipliers_are_said_to_be_and_never_guessed():
    found = priced(dv.rule(input="int8", weight="int8", mul="drum(k=4)"))
    assert (found.energy_pj, found.relative, found.total_pj) == (None, None, None)
    assert found.memory_pj > 0
    spelling = "drum(k=4, bits=8, signed=True)"
    assert found.missing == (f".: declare 'circuits: {{'{spelling}': <pJ>}}' in a table of costs",)
    assert "not known" in str(found)
    found = priced(dv.rule(input="posit(8, 1)", weight="posit(8, 1)"))
    assert "multiply: {'posit(8, es=1)'" in found.missing[0] or "posit(8" in found.missing[0]
    assert found.energy_pj is None
    found = priced(dv.rule(input="int8", weight="int8", acc="eta(bits=24, low=8)"))
    assert "adders: {'eta(bits=24, low=8)': <pJ>}" in found.missing[0]


def test_a_model_an_emulated_model_and_a_plan_cost_the_same():
    net, x = nn.Linear(64, 8), torch.zeros(2, 64)
    bare = dv.cost(net, x)
    assert bare.energy_pj == pytest.approx(MACS * 4.6)
    recipe = dv.Recipe(dv.rule(input="int8", weight="int8"))
    planned = dv.cost(dv.plan(net, recipe, x))
    dv.apply_(net, recipe, x)
    assert dv.cost(net) == planned


def test_refusals():
    net = nn.Linear(64, 8)
    with pytest.raises(dv.DovetailError, match="not emulated: give an example"):
        dv.cost(net)
    with pytest.raises(dv.DovetailError, match="made without an example"):
        dv.cost(dv.plan(net, dv.Recipe(dv.rule(input="int8", weight="int8"))))
    with pytest.raises(dv.DovetailError, match="give a model or a plan"):
        dv.cost("digits")
    with pytest.raises(dv.DovetailError, match="no table for 28 nm"):
        dv.cost(net, torch.zeros(1, 64), node=28)
    with pytest.raises(dv.DovetailError, match="different nodes do not mix"):
        dv.cost(net, torch.zeros(1, 64), tables=["horowitz2014", "jouppi2021"])
    with pytest.raises(dv.DovetailError, match="different nodes"):
        dv.cost(net, torch.zeros(1, 64), tables="horowitz2014", node=7)


def test_a_node_is_a_number():
    with pytest.raises(dv.DovetailError, match="node='7': a node is a number of nm"):
        dv.cost(nn.Linear(2, 2), torch.zeros(1, 2), node="7")


def test_lines_through_the_origin():
    assert interpolated({8: 2.0, 16: 6.0}, 0) == 0
    assert [interpolated({8: 2.0, 16: 6.0}, x) for x in (8, 16, 24)] == [2.0, 6.0, 10.0]


def test_operations_are_monotone():
    for node in (7, 45):
        ops = Operations(tables_for(None, node))
        adds = [ops.add(Integer(n)).energy_pj for n in range(1, 65)]
        products = [ops.multiply(Integer(n), Integer(n)).energy_pj for n in range(1, 33)]
        floats = [ops.multiply(Float(8, n), Float(8, n)).energy_pj for n in range(1, 25)]
        for series in (adds, products, floats):
            assert all(a < b for a, b in itertools.pairwise(series))
