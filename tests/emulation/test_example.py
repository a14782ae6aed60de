"""What the example of ``apply_`` gives, and what is missing without it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import INT8, build, modes, randn

RECIPE = dv.Recipe(dv.rule("*", **INT8))


def test_example_as_tensor_tuple_and_mapping():
    class Two(nn.Module):
        def forward(self, x, y, *, scale=1.0):
            return x @ y * scale

    x, y = randn(2, 3), randn(3, 4)
    for example in ((x, y), {"x": x, "y": y, "scale": 2.0}):
        assert [o.key for o in dv.plan(Two(), RECIPE, example)] == [".:matmul"]


def test_without_an_example_ranges_are_missing_and_the_first_forward_says_so():
    model = nn.Sequential(build(0, lambda: nn.Linear(3, 2)))
    plan = dv.apply_(model, RECIPE)
    assert plan.ranges == "missing"
    with pytest.raises(dv.DovetailError) as raised:
        model(randn(1, 3))
    assert str(raised.value) == (
        "0: the range of its input is not known. Calibrate it with 'with dv.calibrate(model): "
        "model(batch)', or give apply_ an example; a format such as 'int8(dynamic)' needs neither"
    )
    assert modes() == 0


def test_an_empty_example_gives_no_ranges():
    model = nn.Sequential(build(0, lambda: nn.Linear(3, 2)))
    dv.apply_(model, RECIPE, torch.empty(0, 3))
    with pytest.raises(dv.DovetailError, match="range of its input is not known"):
        model(randn(1, 3))


def test_dynamic_formats_need_no_ranges():
    model = nn.Sequential(build(0, lambda: nn.Linear(3, 2)))
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8(dynamic)", weight="int8")))
    x = randn(4, 3)
    wanted = nn.Sequential(model[0])
    assert torch.allclose(
        model(x), nn.functional.linear(x, model[0].weight, model[0].bias), atol=0.1
    )
    assert not [name for name, _ in wanted.named_buffers()]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.ones(2, 5), r"fails on the example \(torch.float32 \(2, 5\)\): RuntimeError"),
        ("x", r"fails on the example \(str 'x'\): TypeError"),
        ({"wrong": 3}, r"fails on the example \(int 3\): TypeError"),
    ],
)
def test_an_example_that_the_model_cannot_take_is_named(example, message):
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(dv.DovetailError, match=message):
        dv.apply_(model, RECIPE, example)
    assert type(model[0]) is nn.Linear
    assert modes() == 0


def test_what_is_no_model_is_refused():
    with pytest.raises(dv.DovetailError, match=r"a model is an nn.Module, not 'net'"):
        dv.plan("net", RECIPE)
