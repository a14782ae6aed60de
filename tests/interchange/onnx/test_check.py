"""The comparison that stands between a file and its place."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.interchange.capture import captured
from dovetail.interchange.onnx.check import (
    compared,
    compared_functions,
    recorded,
    with_special_values,
)
from dovetail.interchange.onnx.functions import Function, functions_of
from helpers import randn
from onnx_functions import emulated


def test_bits_are_compared_and_nan_is_one() -> None:
    one, nan = torch.tensor([0.0, math.nan, math.inf]), torch.tensor([0.0, -math.nan, math.inf])
    assert compared("y", "output", one, nan).is_equal
    assert compared("y", "output", torch.tensor([0.0]), torch.tensor([-0.0])).different == 1
    far = compared("y", "output", torch.tensor([math.nan]), torch.tensor([1.0]))
    assert far.largest == math.inf


def test_other_shapes_and_types_are_refused() -> None:
    with pytest.raises(dv.DovetailError, match=r"y \(output\): torch.float32 \(2,\) came instead"):
        compared("y", "output", torch.zeros(2), torch.zeros(3))
    with pytest.raises(dv.DovetailError, match=r"came instead of torch.float16"):
        compared("y", "output", torch.zeros(2), torch.zeros(2).half())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_special_values_are_among_what_is_compared(dtype: torch.dtype) -> None:
    x = with_special_values(randn(100).to(dtype))
    assert x.dtype == dtype
    assert x.isnan().any()
    assert (x == math.inf).any()
    assert (x == -math.inf).any()
    assert ((x == 0) & x.signbit()).any()


def test_a_wrong_function_is_found() -> None:
    model, x = nn.Linear(8, 3), randn(4, 8)
    emulated(model, x, input="int8", weight="int8")
    graph = captured(model, (x,), {})
    (right,) = functions_of(graph)
    nodes = right.operation.nodes
    wrong = Function(right.operation, nodes("Add", right.output, nodes.float(1e-6)))
    run = recorded(graph, [right.node], (x,))
    assert compared_functions([right], run)[0].is_equal
    assert not compared_functions([wrong], run)[0].is_equal
