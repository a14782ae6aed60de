"""The proof that an operation feeds certain others and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dovetail.recovery.batches import Batches
from dovetail.recovery.flow import flow
from dovetail.recovery.operations import operations
from helpers import build, randn


class Two(nn.Module):
    """A norm and a linear layer, with something between or beside them."""

    def __init__(self, between=None, beside=None) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 4)
        self.between, self.beside = between, beside

    def forward(self, x):
        h = self.norm(x)
        y = self.fc(h if self.between is None else self.between(h))
        return y if self.beside is None else (y, self.beside(h))


def feeds(model, x=None):
    batches = Batches([randn(2, 3, 4) if x is None else x], build(0, lambda: model))
    found, ops = flow(model, batches), operations(model, batches)
    norm, fc = (next(p for p in ops.by_place if p[0] == name) for name in ("norm", "fc"))
    return found.feeder(fc) == norm and found.only_takers(norm) == {(fc, "input")}


@pytest.mark.parametrize(
    ("between", "beside"),
    [
        (None, None),
        (lambda h: h.contiguous(), None),
        (lambda h: h.view(-1, 4), None),
        (lambda h: h.reshape(6, 4).clone(), None),
        (lambda h: h.to(torch.float32), None),
        (None, lambda h: h.shape[0]),
        (None, lambda h: h.size(-1) + h.dim()),
    ],
)
def test_proven(between, beside):
    assert feeds(Two(between, beside))


@pytest.mark.parametrize(
    ("between", "beside"),
    [
        (lambda h: h.mT.contiguous().mT, None),
        (lambda h: h.flip(-1), None),
        (lambda h: h.reshape(2, 4, 3).reshape(2, 3, 4), None),
        (lambda h: h[:, :2], None),
        (lambda h: h + 1, None),
        (lambda h: h.add_(1.0), None),
        (None, lambda h: h),
        (None, lambda h: h.view(-1)),
        (None, lambda h: [{"x": h.clone()}]),
        (None, lambda h: h.sum()),
        (None, lambda h: h.sum().item()),
        (None, lambda h: bool((h > 0).any())),
        (None, lambda h: torch.relu(h)),
        (None, lambda h: h[0, 0]),
        (None, lambda h: h.detach().numpy().sum()),
    ],
)
def test_not_proven(between, beside):
    assert not feeds(Two(between, beside))


def test_an_operation_called_twice_on_different_values_has_no_feeder():
    class Twice(Two):
        def forward(self, x):
            return self.fc(self.norm(x)) + self.fc(x)

    assert not feeds(Twice())


def test_in_place_activations_are_followed():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    batches = Batches([randn(2, 4)], model)
    found = flow(model, batches)
    first, relu, last = operations(model, batches).by_place
    assert (found.feeder(last), found.feeder(relu)) == (relu, first)
    assert found.only_takers(first) == {(relu, "input")}
    assert found.only_takers(relu) == {(last, "input")}
