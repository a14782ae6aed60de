"""Attributions by hand, as sums, of parts and of wholes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from attributed_models import CODES, RECIPES, made
from dovetail.emulation.partial import sources_of
from dovetail.emulation.state import sites
from dovetail.errors import DovetailError
from dovetail.recipe.selectors import Selector
from helpers import build, randn


def test_two_layers_by_hand() -> None:
    """y = 2 * round(x); z = y rounded to multiples of 4: each cast's part, alone and removed."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False))
    model[0].weight.data = torch.tensor([[2.0]])
    model[1].weight.data = torch.tensor([[1.0], [-1.0]])
    x = torch.tensor([[0.4], [0.6], [1.4], [-2.6]])
    fixed, coarse = "fixed(8, 0)", "fixed(8, -2)"
    dv.apply_(model, dv.Recipe(dv.rule("0", input=fixed), dv.rule("1", output=coarse)), x)

    def mean_output(model: nn.Module, loader: Any) -> float:
        return float(torch.cat([model(y)[:, 0] for y, _ in loader]).mean())

    found = dv.attribute(model, [(x[:3], x[:3, 0]), (x[3:], x[3:, 0])], mean_output, resamples=0)
    exact = [0.8, 1.2, 2.8, -5.2]
    rounded = [0.0, 2.0, 2.0, -6.0]  # 2 * round(x)
    alone = [0.0, 0.0, 4.0, -4.0]  # to multiples of 4, ties to even
    both = [0.0, 0.0, 0.0, -8.0]
    assert found.exact_metric == pytest.approx(np.mean(exact), abs=1e-6)
    assert found.emulated_metric == np.mean(both)
    first, second = found["0", "input"], found["1", "output"]
    assert first.delta_metric == pytest.approx(np.mean(rounded) - np.mean(exact), abs=1e-6)
    assert second.delta_metric == pytest.approx(np.mean(alone) - np.mean(exact), abs=1e-6)
    assert first.disabled_delta_metric == np.mean(alone) - np.mean(both)
    assert second.disabled_delta_metric == np.mean(rounded) - np.mean(both)
    noise = np.sum(np.subtract(rounded, exact) ** 2)
    assert first.isolated_sqnr_db == pytest.approx(10 * np.log10(np.sum(np.square(exact)) / noise))
    # the second layer gives y and -y, so that the ratio at the output is that of y
    assert first.accumulated_sqnr_db == pytest.approx(first.isolated_sqnr_db)
    cosine = np.dot(rounded, exact) / np.linalg.norm(rounded) / np.linalg.norm(exact)
    assert first.isolated_cosine == pytest.approx(cosine)
    assert (first.values, first.saturated, first.ci_low) == (3, 0, None)
    assert found.higher_is_better is None
    assert found.metric == "mean_output"


def first_output(model: nn.Module, loader: Any) -> float:
    return float(torch.cat([model(y)[:, 0] for y, _ in loader]).double().mean())


@pytest.mark.parametrize(
    ("depth", "fields"),
    [
        (1, {"input": "int12", "weight": "int12", "bias": "bf16", "mul": "truncated(bits=12)"}),
        (3, {"weight": "int12", "bias": "bf16"}),
    ],
)
def test_sources_add_up_to_the_total_in_the_linear_regime(depth: int, fields: Any) -> None:
    """Small errors that do not depend on each other, in a linear model under a linear metric."""
    model = build(0, lambda: nn.Sequential(*[nn.Linear(8, 8) for _ in range(depth)]))
    x = randn(16, 8)
    dv.apply_(model, dv.Recipe(dv.rule("*", **fields)), x)
    found = dv.attribute(model, [(x, x[:, 0])], first_output, resamples=0)
    total = found.emulated_metric - found.exact_metric
    parts = found.by_source
    assert set(parts) == set(fields)
    assert total == pytest.approx(sum(part["delta_metric"] for part in parts.values()), rel=2e-3)
    if depth > 1:
        removed = sum(part["disabled_delta_metric"] for part in parts.values())
        assert total == pytest.approx(-removed, rel=2e-3)
    assert abs(total) > 1e-6


def test_operations_and_sources_that_are_asked_for() -> None:
    model, loader = made("attention")
    whole = dv.attribute(model, loader, resamples=20)
    some = dv.attribute(model, loader, select=["*:softmax", "block.?"], resamples=20)
    assert {row.op for row in some} == {"block:softmax", *(f"block.{name}" for name in "qkvo")}
    assert all(row == whole[row.op, row.source] for row in some)
    mul = dv.attribute(model, loader, select="*.up", sources=["mul"], resamples=20)
    assert mul.rows == (whole["block.up", "mul"],)
    assert mul.ops == tuple(op for op in whole.ops if op.op == "block.up")
    predicted = dv.attribute(model, loader, mode="first_order", sources=["fn"])
    assert [row.op for row in predicted] == ["block:softmax"]
    with pytest.raises(
        DovetailError, match=r"matches no emulated operation; did you mean 'block\.u"
    ):
        dv.attribute(model, loader, select="block.upp")
    with pytest.raises(DovetailError, match="unknown source of error 'multiplier'"):
        dv.attribute(model, loader, sources=["multiplier"])
    with pytest.raises(DovetailError, match="matches has the source bias"):
        dv.attribute(model, loader, sources="bias")


def test_an_operation_s_sources_together() -> None:
    """Alone in an exact model, and exact in an emulated one."""
    model, loader = made("linear")
    found = dv.attribute(model, loader, "loss", resamples=30)
    rules = {"0": dv.Recipe(CODES), "2": RECIPES["linear"]}
    dv.remove_(model)
    for op in found.ops:
        assert op.ci_low <= op.delta_metric <= op.ci_high
        recipe = dv.Recipe(*(replace(r, selector=Selector(op.op)) for r in rules[op.op]))
        dv.apply_(model, recipe, loader[0][0])
        alone = dv.attribute(model, loader, "loss", resamples=0).emulated_metric
        dv.remove_(model)
        assert found.exact_metric + op.delta_metric == pytest.approx(alone, rel=1e-9)
        other = next(each for each in found.ops if each is not op)
        left = found.emulated_metric + other.disabled_delta_metric
        assert left == pytest.approx(alone, rel=1e-9)
        assert found.by_op[op.op]["whole"]["delta_metric"] == op.delta_metric


def test_one_source_is_the_whole() -> None:
    model, loader = made("conv")
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule("head", weight="int4")), loader[0][0])
    passes: list[int] = []
    found = dv.attribute(model, loader, progress=lambda done, _: passes.append(done))
    assert len(passes) == 2 * (2 + 2)
    assert found.ops[0].delta_metric == found["head", "weight"].delta_metric


def test_a_recipe_without_error_has_no_rows() -> None:
    model, loader = made("linear")
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule("0", input="same")), loader[0][0])
    for mode in ("exact", "first_order"):
        found = dv.attribute(model, loader, mode=mode)
        assert (found.rows, found.by_op, found.by_source) == ((), {}, {})
        assert found.exact_metric == found.emulated_metric


@pytest.mark.parametrize("name", RECIPES)
def test_rows_of_every_model(name: str) -> None:
    model, loader = made(name)
    found = dv.attribute(model, loader, resamples=100)
    planned = [(site.op.key, source) for site, _ in sites(model) for source in sources_of(site)]
    assert sorted((row.op, row.source) for row in found) == sorted(planned)
    exact, emulated = _measured(model, loader)
    assert found.samples == 20
    assert found.exact_metric == exact.value
    if name != "drawn":
        assert found.emulated_metric == emulated.value
    for row in found:
        assert row.ci_low <= row.delta_metric <= row.ci_high
        assert row.disabled_ci_low <= row.disabled_delta_metric <= row.disabled_ci_high
        assert row.accumulated_kl >= 0
        assert row.source not in ("input", "weight", "output", "acc") or row.values > 0
        assert (row.changed is not None) == (row.source == "mul")
        assert row.with_sources == _goes_along(model, row.op, row.source)


def _measured(model: nn.Module, loader: list[Any]) -> tuple[Any, Any]:
    with dv.emulation.exact(model):
        exact = dv.analysis.accuracy(model, loader)
    return exact, dv.analysis.accuracy(model, loader)


def _goes_along(model: nn.Module, op: str, source: str) -> tuple[str, ...]:
    site = next(site for site, _ in sites(model) if site.op.key == op)
    own = sources_of(site)
    if source not in ("input", "weight"):
        return ()
    return tuple(name for name in ("mul", "acc") if name in own)


def test_summaries_and_histograms() -> None:
    model, loader = made("conv")
    found = dv.attribute(model, loader, resamples=0, inspected=8)
    table = dv.analysis.layers(model, loader[0][0][:8])
    assert [each.op for each in found.ops] == [row.key for row in table]
    assert found.by_op["a"]["accumulated_sqnr_db"] == table["a"].accumulated_db
    assert found["a", "mul"].changed == table["a"].changed
    shown = found.to_dict()["histograms"]["a"]
    assert sum(shown["input"]["counts"]) == 8 * 2 * 25
    assert sum(shown["weight"]["counts"]) == 4 * 2 * 9
    assert shown["input"]["low"] == -shown["input"]["high"]
    assert shown["input"]["edges"][-1] <= shown["input"]["high"] * (1 + 1e-6)
    assert shown["output"]["high"] == 448.0


def test_a_multiplier_alone_by_hand() -> None:
    """What it does to the codes, at the scale of both, on top of the exact result; without the
    weight's cast, the exact product of the other cast and the weight as it is."""
    model = build(0, lambda: nn.Sequential(nn.Linear(6, 1)))
    x = randn(9, 6)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int4", mul="drum(k=3)")), x)
    found = dv.attribute(model, [(x, x[:, 0])], first_output, resamples=0)
    layer = model[0]
    weight, bias = layer.weight.detach(), layer.bias.detach()
    scales = x.abs().max() / 127, weight.abs().max() / 7
    a, w = (torch.round(t / scale) for t, scale in zip((x, weight), scales, strict=True))
    table = dv.multiplier("drum(k=3)").table()
    index = (a.long() & 255)[:, None, :], (w.long() & 255)[None]
    changed = torch.as_tensor(table)[index[0], index[1]].sum(-1) - (a @ w.T)
    alone = float((changed.double() * (scales[0] * scales[1]).double()).mean())
    row = found["0", "mul"]
    assert abs(alone) > 1e-3
    assert row.delta_metric == pytest.approx(alone, rel=1e-4)
    emulated = float(model(x).detach().double().mean())
    without = float((a.double() * scales[0].double() @ weight.double().T + bias).mean())
    row = found["0", "weight"]
    assert row.with_sources == ("mul",)
    assert row.disabled_delta_metric == pytest.approx(without - emulated, rel=1e-4, abs=1e-6)


def test_ranges_of_affine_formats_are_where_their_codes_end() -> None:
    model = build(0, lambda: nn.Sequential(nn.Linear(6, 3)))
    x = randn(9, 6) + 1.0
    dv.apply_(model, dv.Recipe(dv.rule("*", input="uint8", weight="int8")), x)
    found = dv.attribute(model, [(x, torch.arange(9) % 3)], resamples=0)
    shown = next(each for each in found.histograms if each.slot == "input")
    span = shown.high - shown.low
    assert shown.low == pytest.approx(float(x.min()), abs=span / 255)
    assert shown.high == pytest.approx(float(x.max()), abs=span / 255)
