"""The tree of modules with what each operation was given."""

from __future__ import annotations

import torch
from torch import nn

import dovetail as dv
from dovetail.analysis import tree


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x):
        h = self.fc(x)
        return x + self.rest(h @ h.T @ h)


def test_operations_stand_where_they_are_called():
    net = nn.Sequential(Block(), nn.Linear(4, 2))
    rules = (
        dv.rule("*.fc", input="int8", weight="int8", mul="mul8s_1KV9", output="bf16"),
        dv.rule("0", op="add matmul", input="bf16", output="fp16"),
    )
    found = tree(net, dv.plan(net, dv.Recipe(*rules), torch.ones(3, 4)))
    assert found.splitlines() == [
        "Sequential",
        "├── 0 Block",
        "│   ├── matmul_0  input=bf16 → fp16",
        "│   ├── matmul_1  input=bf16 → fp16",
        "│   ├── add  input=bf16 → fp16",
        "│   ├── fc Linear  input=int8, weight=int8, mul=mul8s_1KV9@v2022 → bf16",
        "│   └── rest Sequential",
        "└── 1 Linear",
    ]
