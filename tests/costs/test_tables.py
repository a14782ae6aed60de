"""Tables of a user's own: what wins, what is scaled, what is refused and how."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.costs.files import load_table

HEAD = "dovetail-cost: 1\nname: mine\nsource: measured\n"


@pytest.fixture
def priced(tmp_path):
    def run(text, **fields):
        path = tmp_path / "mine.yaml"
        path.write_text(HEAD + text, encoding="utf-8")
        rule = dv.rule(**{"input": "int8", "weight": "int8", "acc": "int32", **fields})
        return dv.cost(dv.plan(nn.Linear(4, 4), dv.Recipe(rule), torch.zeros(1, 4)), tables=path)

    return run


def test_declared_figures_win_and_the_rest_is_scaled(priced):
    text = (
        "node: 22\nbased_on: horowitz2014\n"
        "scale: {energy: 0.5, area: 0.25, source: our foundry}\nmultiply: {int8: 0.07}\n"
    )
    found = priced(text)
    assert (found["."].multiply_pj, found["."].accumulate_pj) == pytest.approx(
        (16 * 0.07, 16 * 0.05)
    )
    assert found.node == 22
    assert found.area_um2 is None  # that of the declared product is not
    assert "figures of horowitz2014 in mine: energy x 0.5, area x 0.25 (our foundry)" in (
        found.assumptions
    )
    assert found["."].memory_pj == pytest.approx((16 + 4 + 16) * 1.25 * 0.5)  # output in float32
    assert found.delay_ns is None  # the circuits' is of 45 nm


def test_circuits_adders_functions(priced):
    text = (
        "circuits: {drum(k=4): {energy_pj: 0.01, area_um2: 5, delay_ns: 0.5}}\nadd: {int32: 0.1}\n"
    )
    found = priced(text + "multiply: {int8: 0.04}\n", mul="drum(k=4)")
    assert found["."].multiply_pj == pytest.approx(0.16)
    assert found.relative == pytest.approx(0.25)
    assert found.delay_ns == 0.5
    text = "adders: {'eta(bits=24, low=8)': 0.02}\nmultiply: {int8: 0.04}\n"
    assert priced(text, acc="eta(bits=24, low=8)")["."].accumulate_pj == pytest.approx(0.32)
    table = load_table("horowitz2014").model_copy(
        update={"functions": {"relu": load_table("horowitz2014").add["int8"]}}
    )
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    found = dv.cost(net, torch.zeros(2, 4), tables=table)
    assert found["1"].energy_pj == pytest.approx(8 * 0.03)
    assert found.uncounted == ()


def test_operands_pass_the_register_file_where_that_is_declared(priced):
    text = (
        "based_on: horowitz2014\nmemory: {rf: {bytes: 64, energy_pj_per_byte: 0.1}}\n"
        "placement: {operands: rf, weights: dram, activations: sram_8KB}\n"
    )
    found = priced(text, output="int8")
    moved = 16 * 162.5 + (4 + 4) * 1.25
    assert found.memory_pj == pytest.approx(moved + 16 * (8 + 8 + 64) / 8 * 0.1)


def test_the_first_of_several_tables_wins(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD + "multiply: {int8: 1}\n", encoding="utf-8")
    rule = dv.rule(input="int8", weight="int8", acc="int32")
    plan = dv.plan(nn.Linear(4, 4), dv.Recipe(rule), torch.zeros(1, 4))
    found = dv.cost(plan, tables=[path, "horowitz2014"])["."]
    assert (found.multiply_pj, found.accumulate_pj) == pytest.approx((16, 1.6))
    without = dv.cost(plan, tables=path)["."]
    assert (without.multiply_pj, without.accumulate_pj, without.memory_pj) == (16, None, None)
    assert without.missing == ("declare 'add: {int32: <pJ>}' in a table of costs",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("multiplies: {}\n", r"mine.yaml:4:1: unknown key 'multiplies'; did you mean 'multiply'"),
        (
            "multiply: {int8: {energy: 3}}\n",
            r":4:19: unknown key 'energy'; did you mean 'energy_pj'",
        ),
        (
            "multiply: {int8: -1}\n",
            r"multiply.int8.energy_pj: must be at least 0.0, got the number -1",
        ),
        ("multiply: {int8: cheap}\n", r"multiply.int8: .*got the text 'cheap'"),
        ("multiply: {int99x: 1}\n", r"mine.yaml:4:12: unknown format 'int99x'"),
        (
            "functions: {softmaks: 1}\n",
            r"4:13: unknown function 'softmaks'; did you mean",
        ),
        ("circuits: {drumm(k=4): 1}\n", r"4:12: unknown multiplier 'drumm'; did you mean 'drum'"),
        ("adders: {loaa(bits=8): 1}\n", r"4:10: unknown accumulator 'loaa'; did you mean 'loa'"),
        ("add: {int8: .inf}\n", r"4:13: add.int8.energy_pj: .*finite number"),
        ("add: {int8: 1, uint8: 2}\n", "add: 'int8' and 'uint8' are the same, and their figures"),
        (
            "circuits: {drum(k=4): 1, 'drum(k=4, bits=8)': 2}\n",
            r"'drum\(k=4\)' and 'drum\(k=4, bits=8\)' are the same",
        ),
        ("scale: {energy: 2, source: x}\n", "name that table"),
        ("node: 28\nbased_on: horowitz2014\n", "declare 'scale: {energy: <factor>"),
        ("based_on: horowitz\n", "unknown table of costs 'horowitz'; did you mean 'horowitz2014'"),
        ("based_on: mine.yaml\n", "leads back to 'mine'"),
        ("placement: {weights: rom}\n", "weights live in 'rom', which no table declares"),
        ("memory: {rom: {energy_pj_per_byte: 1, size: 3}}\n", "unknown key 'size'"),
    ],
)
def test_refusals_teach(priced, text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(dv.DovetailError, match=words):
        priced(text)


def test_a_table_is_a_mapping_with_a_version(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\nsource: y\n", encoding="utf-8")
    with pytest.raises(dv.DovetailError, match="the key 'dovetail-cost' is missing"):
        load_table(path)
    path.write_text("- 3\n", encoding="utf-8")
    with pytest.raises(dv.DovetailError, match="begins with 'dovetail-cost: 1'"):
        load_table(path)
    with pytest.raises(dv.DovetailError, match="no file"):
        load_table(tmp_path / "none.yaml")
    with pytest.raises(dv.DovetailError, match="not 3"):
        load_table(3)


def test_the_table_of_the_documentation(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "cost.md").read_text(encoding="utf-8")
    path = tmp_path / "ours.yaml"
    path.write_text(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0], encoding="utf-8")
    rule = dv.rule(input="int8", weight="int4", acc="int24")
    plan = dv.plan(nn.Linear(4, 4), dv.Recipe(rule), torch.zeros(1, 4))
    found = dv.cost(plan, tables=path)
    assert found.energy_pj == pytest.approx(16 * (0.035 + 0.02))
    assert found.node == 22


def test_keys_are_read_for_what_they_mean(priced):
    """However they are spelt; a product that is declared one way round counts for both."""
    adder = "add: {int32: 9}\nmultiply: {int8: 9}\nadders: {'eta(low=8,bits=24)': 0.02}\n"
    assert priced(adder, acc="eta(bits=24, low=8)")["."].accumulate_pj == pytest.approx(0.32)
    orders = (("int8", "int4"), ("int4", "int8"))
    one, both = "multiply: {int8 x int4: 1}\n", "multiply: {int8 x int4: 1, int4 x int8: 2}\n"
    for text, energies in ((one, (16, 16)), (both, (16, 32))):
        for (first, second), energy in zip(orders, energies, strict=True):
            found = priced(text, input=first, weight=second)["."]
            assert found.multiply_pj == pytest.approx(energy)


def test_operands_of_two_kinds(priced):
    """Multiplied as the floating-point one, which is said, unless a table has their product."""
    based = "node: 45\nbased_on: horowitz2014\n"
    for fmt in ("posit(8, 1)", "nf4"):
        found = priced(based, input=fmt, acc=None)["."]
        assert found.multiply_pj == pytest.approx(16 * 3.7)
        assert found.how[0].startswith(f"{dv.format(fmt)} x int8 multiplied as fp32; fp32 product")
        declared = priced(based + f"multiply: {{'{fmt} x int8': 0.5}}\n", input=fmt, acc=None)["."]
        assert declared.multiply_pj == pytest.approx(8)
        assert declared.accumulate_pj == pytest.approx(16 * 0.9)
