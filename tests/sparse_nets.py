"""A small network whose weights are pruned, and its example, for tests of sparsity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.sparsity import sparsity

X = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))


def net(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(layers or (nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))))


def apply(model: nn.Module, text: str, x: Tensor = X, **fields: str) -> dv.Plan:
    return dv.apply_(model, dv.Recipe(dv.rule("*", sparsity=text, **fields)), x)


def pruned(weight: Tensor, text: str, axis: int = -1) -> Tensor:
    mask = sparsity(text).pattern.mask(weight.detach().abs(), axis)
    return torch.where(mask, weight.detach(), 0)
