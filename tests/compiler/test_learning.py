"""Digits learned through compiled code: the loss falls and the accuracy ends as in eager."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

import dovetail as dv
from dovetail.compiler.backend import dovetail
from dovetail.zoo import data
from dovetail.zoo.digits import DigitsCNN, normalised
from helpers import build

pytest.importorskip("dace")

EPOCHS = 4


def learned(model, digits, step):
    """The mean loss of each epoch, and how many test digits are right, by ``step`` on batches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    torch.manual_seed(0)
    for _ in range(EPOCHS):
        taken = []
        for x, target in digits.train:
            optimizer.zero_grad()
            loss = F.cross_entropy(step(x), target)
            loss.backward()
            optimizer.step()
            taken.append(loss.item())
        losses.append(sum(taken) / len(taken))
    model.eval()
    with torch.no_grad():
        right = [(model(x).argmax(1) == target).float() for x, target in digits.test]
    return torch.tensor(losses), float(torch.cat(right).mean())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["dv.compile", "torch.compile"])
def test_digits_are_learned_as_in_eager(way):
    digits = data.load("digits", batch_size=77)  # 1078 images: no last batch of another size
    source = build(0, lambda: normalised(DigitsCNN())).train()
    eager = copy.deepcopy(source)
    losses, accuracy = learned(eager, digits, eager)
    if way == "dv.compile":
        step = dv.compile(source, next(iter(digits.train))[0])
    else:
        step = torch.compile(source, backend=dovetail)
    ours, reached = learned(source, digits, step)
    assert accuracy > 0.9
    assert abs(reached - accuracy) <= 0.015
    torch.testing.assert_close(ours, losses, rtol=0.05, atol=0.01)
