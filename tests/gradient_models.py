"""What the tests of gradients share: small emulated models, and how they are differentiated."""

from __future__ import annotations

import torch
from torch import nn

import dovetail as dv
from dovetail.kernels.ranges import operand_range


def applied(layer, example, grad, mul, input_="int8", weight="int8"):
    model = nn.Sequential(layer)
    rule = dv.rule("*", input=input_, weight=weight, mul=mul, grad=grad)
    dv.apply_(model, dv.Recipe(rule), example)
    return model


def given_range(example, fmt):
    return operand_range(example, dv.format(fmt), "input", None)


def backward(y, *leaves):
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(9)).to(y.dtype)
    return direction, torch.autograd.grad(y, leaves, direction)


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        y = torch.relu(self.conv(x)).flatten(1)
        return torch.matmul(self.fc(y), torch.linspace(-1, 1, 8, dtype=x.dtype).reshape(4, 2))
