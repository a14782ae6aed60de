"""Emulated models of several kinds, and loaders that they are mostly right on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import dovetail as dv
from helpers import INT8, build, randn
from recovery.models import Block

ROUGH = "broken_array(bits=8, drop_columns=6)"


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0].mean(1))


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.norm(self.a(x)))
        y = nn.functional.relu(self.b(y) + y, inplace=True)
        return self.head(y.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = Block(), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x).mean(1))


CODES = dv.rule("*", input="int8", weight="int4", mul=ROUGH, acc="int14", output="fp8_e4m3fn")
RECIPES = {
    "linear": dv.Recipe(CODES, dv.rule("2", sparsity="2:4", bias="bf16")),
    "conv": dv.Recipe(CODES, dv.rule(op="relu", output="fp4_e2m1fn")),
    "attention": dv.Recipe(
        dv.rule("*", **INT8, mul=ROUGH),
        dv.rule(op="softmax", fn="poly2(fp16)"),
        dv.rule(op="layer_norm", input="fp8_e4m3fn"),
        dv.rule("*.down", sparsity="2:4"),
    ),
    "lstm": dv.Recipe(
        dv.rule("*", **INT8, acc="int16(saturate)"), dv.rule(op="sigmoid", fn="poly2(fp16)")
    ),
    "drawn": dv.Recipe(dv.rule("*", input="int4(rounding=Stochastic)", weight="int4")),
}


def made(name: str) -> tuple[nn.Module, list[Any]]:
    """An emulated model and a loader of two batches, of which the exact model is mostly right."""
    make, shape = {
        "linear": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (6,)),
        "drawn": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (6,)),
        "conv": (Convolutions, (2, 5, 5)),
        "attention": (Attention, (4, 16)),
        "lstm": (Recurrent, (4, 6)),
    }[name]
    model = build(0, make).eval()
    with torch.no_grad():
        batches = [randn(size, *shape, seed=size) for size in (12, 8)]
        loader = [(x, model(x).argmax(1)) for x in batches]
    dv.apply_(model, RECIPES[name], batches[0])
    return model, loader
