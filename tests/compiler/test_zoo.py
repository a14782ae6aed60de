"""The models of the zoo, compiled: outputs and gradients are eager's, forward and backward."""

from __future__ import annotations

import copy

import pytest
import torch

import dovetail as dv
from dovetail import zoo
from helpers import build, randn

pytest.importorskip("dace")

TEXT = torch.arange(6).reshape(2, 3) % 17
SMALL = {
    "digits-cnn": (lambda: zoo.build("digits-cnn"), randn(2, 1, 8, 8)),
    "dcgan-discriminator": (lambda: zoo.dcgan.Discriminator(4), randn(2, 3, 64, 64)),
    "dcgan-generator": (lambda: zoo.dcgan.Generator(8, 4), randn(2, 8)),
    "lstm-lm": (lambda: zoo.language.LSTMLanguageModel(width=8), TEXT),
}


def gradients(model, x):
    """Outputs and gradients of one training step."""
    out = model(x)
    loss = (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).mean()
    wanted = [p for p in model.parameters() if p.requires_grad]
    return out.detach(), torch.autograd.grad(loss, wanted)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "digits-cnn" else pytest.mark.slow) for name in SMALL],
)
def test_a_training_step_is_eagers(name, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CXXFLAGS", "-O1")
    make, x = SMALL[name]
    model = build(0, make).train()
    fast = dv.compile(copy.deepcopy(model), x, check=False)
    ours, theirs = gradients(fast, x), gradients(model, x)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-5)
    scale = max(float(g.abs().max()) for g in theirs[1])
    for mine, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3 * scale)
