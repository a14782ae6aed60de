"""Emulated modules, and whether onnxruntime gives their bits operation by operation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import dovetail as dv
from dovetail.interchange.capture import captured
from dovetail.interchange.onnx.check import compared_functions, recorded
from dovetail.interchange.onnx.functions import Function, functions_of
from dovetail.interchange.result import Compared
from helpers import randn


class Product(nn.Module):
    """A product of two activations."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y


class Cast(nn.Module):
    """One cast."""

    def __init__(self, fmt: str, **options: Any) -> None:
        super().__init__()
        self.format, self.options = fmt, options

    def forward(self, x: Tensor) -> Tensor:
        return dv.cast(x, self.format, **self.options)


def emulated(model: nn.Module, *example: Tensor, **fields: Any) -> nn.Module:
    dv.apply_(model.eval(), dv.Recipe(dv.rule("*", op="*", **fields)), example)
    return model


def functions(model: nn.Module, *example: Tensor) -> tuple[list[Function], list[Compared]]:
    """The functions of an emulated model, each compared with what it stands for."""
    graph = captured(model, example, {})
    found = functions_of(graph)
    run = recorded(graph, [function.node for function in found], example)
    return found, compared_functions(found, run)


def operators(function: Function) -> set[str]:
    return {node.op_type for node in function.operation.nodes.made}


def layer(kind: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A small layer of every kind, with what it is called with."""
    if kind == "linear":
        return nn.Linear(24, 7), (randn(2, 5, 24),)
    if kind == "matmul":
        return Product(), (randn(2, 3, 5, 12), randn(3, 12, 6, seed=1))
    if kind == "grouped":
        layer = nn.Conv2d(6, 4, 3, groups=2, stride=(2, 1), padding=(1, 2), dilation=(1, 2))
        return layer, (randn(2, 6, 9, 9),)
    if kind == "conv1d":
        return nn.Conv1d(3, 4, 3, padding=1, bias=False), (randn(2, 3, 9),)
    assert kind == "transposed"
    return nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1), (randn(2, 3, 4, 4),)
