"""Calibration on some batches of a loader, with what each recipe needs of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dovetail._batches import cross_entropy, device_of, inputs_and_target, mode
from dovetail.calibration.calibrate import calibrate
from dovetail.emulation.taps import emulation_of

__all__ = ["calibrate_on"]


def calibrate_on(
    model: nn.Module, loader: Iterable[Any], batches: int, observer: str, seed: int
) -> None:
    """Calibrate an emulated model on the first batches of a loader, in eval mode; backwards too
    where scores of sparsity are made of gradients. A loader that shuffles does it by ``seed``;
    torch's global generator is left as it was.

    >>> import dovetail as dv
    >>> net = nn.Sequential(nn.Linear(2, 2))
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule(input="int8", weight="int8")))
    >>> calibrate_on(net, [(torch.tensor([[1.27, 0.0]]), torch.tensor([0]))], 1, "minmax", seed=0)
    >>> net[0]._dovetail_linear_input_scale
    tensor(0.0100)
    """
    device = device_of(model)
    backward = any(op.arithmetic.scores_gradients for op in emulation_of(model).plan)
    with (
        torch.random.fork_rng(devices=[]),
        mode(model, training=False),
        torch.set_grad_enabled(backward),
        calibrate(model, observer=observer),
    ):
        torch.manual_seed(seed)
        for batch in itertools.islice(loader, batches):
            inputs, target = inputs_and_target(batch, device)
            output = model(*inputs)
            if backward:
                cross_entropy(output, target).backward()
    if backward:
        model.zero_grad(set_to_none=True)
