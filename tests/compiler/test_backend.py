"""``torch.compile`` with dovetail's backend: outputs and gradients, and what it was told."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from dovetail import DovetailError
from dovetail.compiler.backend import dovetail
from helpers import randn

pytest.importorskip("dace")


def test_training_through_torch_compile_is_eagers():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.BatchNorm1d(5)).train()
    fast = torch.compile(copy.deepcopy(net), backend=dovetail)
    for seed in range(2):
        x = randn(4, 6, seed=seed)
        for model in (net, fast):
            model(x).square().sum().backward()
    for mine, other in zip(fast.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(fast._orig_mod[2].running_var, net[2].running_var)


class Sized(nn.Module):
    """Numbers that are made of the batch size, in every operator that sizes are made with."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        y = self.norm(x) * (n - 1) / (n + 3) + n // 3 + n % 3 + (x > n / 8).float()
        return y * max(n, 3) ** 0.5 - (x.to(torch.int64) * n + min(n, 5)).sum(0)


def test_numbers_made_of_a_size_that_is_known_at_the_call():
    net = Sized().train()
    fast = torch.compile(copy.deepcopy(net), backend=dovetail, dynamic=True)
    for batch in (4, 7):
        x = randn(batch, 5, seed=batch)
        torch.testing.assert_close(fast(x), net(x))
        for model in (net, fast):
            model.zero_grad()
            model(x).square().sum().backward()
    torch.testing.assert_close(fast._orig_mod.norm.weight.grad, net.norm.weight.grad)
    torch.testing.assert_close(fast._orig_mod.norm.running_var, net.norm.running_var)


def test_an_unknown_option_is_refused():
    graph = torch.fx.symbolic_trace(nn.ReLU())
    with pytest.raises(DovetailError, match="unknown option 'fuse'"):
        dovetail(graph, [randn(2)], options={"fuse": True})


def test_the_entry_point_names_the_backend():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dovetail = "dovetail.compiler.backend:dovetail"' in text
