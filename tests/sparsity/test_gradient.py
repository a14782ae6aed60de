"""What each backward mode passes on, eager, under torch.func and compiled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dovetail.sparsity.gradient import masked

WEIGHT = torch.tensor([3.0, -2.0, 5.0, -0.0])
MASK = torch.tensor([True, False, False, True])
UPSTREAM = torch.tensor([1.0, 10.0, 100.0, 1000.0])


@pytest.mark.parametrize(
    ("mode", "to_weight", "to_scores"),
    [
        ("ste", [1.0, 10.0, 100.0, 1000.0], None),
        ("masked", [1.0, 0.0, 0.0, 1000.0], None),
        ("supermask", None, [3.0, -20.0, 500.0, 0.0]),
        ("joint", [1.0, 0.0, 0.0, 1000.0], [3.0, -20.0, 500.0, 0.0]),
    ],
)
def test_modes(mode: str, to_weight: list[float] | None, to_scores: list[float] | None) -> None:
    weight = WEIGHT.clone().requires_grad_()
    scores = torch.zeros(4, requires_grad=True)
    trains = to_scores is not None
    y = masked(weight, MASK, mode, scores if trains else None)
    y.backward(UPSTREAM)
    for found, expected in ((weight.grad, to_weight), (scores.grad, to_scores)):
        assert (None if found is None else found.tolist()) == expected


def test_only_kept_scores_get_a_gradient_if_asked() -> None:
    scores = torch.zeros(4, requires_grad=True)
    masked(WEIGHT, MASK, "supermask", scores, kept_scores=True).backward(UPSTREAM)
    assert scores.grad is not None
    assert scores.grad.tolist() == [3.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_values_keep_their_bits_and_pruned_ones_are_plus_zero(dtype: torch.dtype) -> None:
    weight = torch.tensor([float("nan"), float("inf"), -0.0, -1.0], dtype=dtype)
    mask = torch.tensor([True, False, True, False])
    for grads in (False, True):
        y = masked(weight.clone().requires_grad_(grads), mask).detach()
        assert y.dtype == dtype
        assert y[0].isnan()
        assert torch.signbit(y).tolist()[1:] == [False, True, False]
        assert y[1:].tolist() == [0.0, 0.0, 0.0]


def loss(weight: Tensor, scores: Tensor) -> Tensor:
    return (masked(weight, MASK, "joint", scores) * UPSTREAM).sum()


def test_torch_func_sees_the_same_gradients() -> None:
    grads = torch.func.grad(loss, argnums=(0, 1))(WEIGHT, torch.zeros(4))
    assert grads[0].tolist() == [1.0, 0.0, 0.0, 1000.0]
    assert grads[1].tolist() == [3.0, -20.0, 500.0, 0.0]
    each = torch.func.vmap(torch.func.grad(loss))(torch.stack([WEIGHT, WEIGHT]), torch.zeros(2, 4))
    assert each.tolist() == [grads[0].tolist()] * 2
