"""Casts as whole operators of a graph: the same bits and the same gradients, one node each."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import dovetail as dv
from dovetail.formats.realise import whole_casts

FORMATS = ["fp8_e4m3", "mxfp4", "fixed(8,4)", "int8", "int8(group=4)", "nvfp4", "int8(channel=0)"]


class Casts(nn.Module):
    def forward(self, x):
        return [dv.cast(x, fmt) for fmt in FORMATS] + [dv.cast(x, "int4", scale=0.5)]


def names(graph):
    called = [str(n.target) for n in graph.nodes if n.op == "call_function"]
    return [name for name in called if name.startswith("dovetail.")]


def test_an_exported_graph_keeps_every_cast_and_its_bits():
    x = torch.randn(6, 8)
    x[0, :3] = torch.tensor([torch.nan, torch.inf, -0.0])
    with whole_casts():
        program = torch.export.export(Casts(), (x,))
    found = names(program.graph)
    assert found.count("dovetail.cast.default") == 4
    assert found.count("dovetail.cast_by_range.default") == 3
    assert found.count("dovetail.cast_integers.default") == 1
    for got, want in zip(program.module()(x), Casts()(x), strict=True):
        assert got.view(torch.int32).equal(want.view(torch.int32))


@pytest.mark.parametrize("fmt", ["fp8_e4m3", "mxfp4", "int4"])
def test_the_gradient_of_a_whole_cast_is_the_mask_of_one_pass(fmt):
    x = torch.randn(4, 32) * 500

    def gradient(v):
        v = v.detach().requires_grad_()
        return torch.autograd.grad(dv.cast(v, fmt).sum(), v)[0]

    with whole_casts():
        graph = make_fx(gradient, tracing_mode="fake")(x)
    assert any(name.endswith("_masked.default") for name in names(graph.graph))
    assert graph(x).equal(gradient(x))


def test_without_being_asked_casts_become_torch_operations():
    assert not names(torch.export.export(Casts(), (torch.randn(6, 8),)).graph)
