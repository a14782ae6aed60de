"""Where results are nothing but rounding, compiled code is compared through float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import dovetail as dv
from dovetail.compiler import rounding
from dovetail.compiler.check import compare
from helpers import randn

pytest.importorskip("dace")


def compared(ours, eager, *finer, limit=1e-4):
    """Beside a result of size 1, which gives the scale of rounding."""
    runs = [[run, None] for run in finer]
    scale = torch.ones(1)
    compare("output", [ours, scale], [eager, scale], limit, 0.0, lambda: runs or [[]])


def test_what_is_as_near_as_eager_passes_and_what_is_wrong_does_not():
    exact = torch.zeros(3, dtype=torch.float64)
    eager, ours, wrong = (torch.full((3,), v) for v in (1e-8, -2e-8, 1e-5))
    with pytest.raises(dv.DovetailError, match="output 0 differs from eager"):
        compared(ours, eager)
    compared(ours, eager, exact)
    for made in (wrong, torch.full((3,), torch.nan), ours.double(), ours[:2]):
        with pytest.raises(dv.DovetailError, match="output 0 differs from eager"):
            compared(made, eager, exact)


def test_a_jump_passes_where_eager_jumps_as_far_when_its_inputs_are_moved():
    exact = torch.zeros(3, dtype=torch.float64)
    eager, ours, jumped = (torch.full((3,), v) for v in (1e-8, 2e-3, 1e-3))
    with pytest.raises(dv.DovetailError, match="differs from eager"):
        compared(ours, eager, exact, eager)
    compared(ours, eager, exact, eager, jumped)


def test_what_is_far_off_is_refused_however_far_eager_jumps():
    exact = torch.zeros(3, dtype=torch.float64)
    eager, ours, jumped = (torch.full((3,), v) for v in (1e-8, 0.2, 0.3))
    with pytest.raises(dv.DovetailError, match="output 0 differs from eager"):
        compared(ours, eager, exact, jumped)


def test_a_moved_model_is_another_and_differs_in_last_places():
    model, x = nn.Linear(3, 2), randn(4, 3)
    near, y = rounding.moved(model, 1), rounding.moved(x, 1)
    assert near.weight is not model.weight
    for one, two in ((near.weight, model.weight), (y, x)):
        assert not torch.equal(one, two)
        torch.testing.assert_close(one, two, rtol=2.5e-7, atol=0)
    assert torch.equal(rounding.moved(x, 1), y)


def test_nothing_is_compared_with_where_float64_cannot_be_computed():
    with pytest.raises(dv.DovetailError, match="differs"):
        compare("output", [torch.ones(1)], [torch.zeros(1)], 1e-4, 0.0, lambda: [[]])


def test_a_graph_names_its_types_wider():
    def named(x):
        return x.to(torch.float16).to(torch.float32) + torch.full((1,), 0.1), x.int()

    x = randn(4)
    wide, whole = rounding.graph_in_float64(make_fx(named)(x), [x])
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide, x.double() + 0.1, rtol=0, atol=1e-8)
    assert whole.dtype == torch.int32


def test_a_bias_before_batch_norm_has_no_gradient_but_rounding():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()).train()
    fast = dv.compile(copy.deepcopy(model), randn(16, 1, 6, 6))
    for one in (fast, model):
        one(randn(16, 1, 6, 6, seed=1)).square().sum().backward()
    wanted = model[0].weight.grad
    torch.testing.assert_close(fast.get_parameter("0.weight").grad, wanted, rtol=1e-3, atol=1e-3)


def test_an_example_that_is_one_value_is_named_where_results_differ():
    model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid()).eval()

    def spoil(graph):
        (node,) = graph.graph.find_nodes(op="call_function", target=torch.ops.aten.sigmoid.default)
        node.target = torch.ops.aten.relu.default
        graph.recompile()

    with pytest.raises(dv.DovetailError, match="example is one value throughout"):
        dv.compile(model, torch.ones(2, 3), post_capture=spoil)
    with pytest.raises(dv.DovetailError, match="differs from eager") as raised:
        dv.compile(model, randn(2, 3), post_capture=spoil)
    assert "throughout" not in str(raised.value)
