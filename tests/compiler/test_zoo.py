"""The models of the zoo, compiled: outputs and gradients are eager's, forward and backward."""

from __future__ import annotations

import copy

import pytest
import torch

import dovetail as dv
from dovetail import zoo
from dovetail.compiler.rounding import as_near, in_float64
from helpers import build, randn

pytest.importorskip("dace")

BASIC, BOTTLE = zoo.resnet.BasicBlock, zoo.resnet.Bottleneck
TEXT = torch.arange(6).reshape(2, 3) % 17
SMALL = {
    "digits-cnn": (lambda: zoo.build("digits-cnn"), randn(2, 1, 8, 8)),
    "dcgan-discriminator": (lambda: zoo.dcgan.Discriminator(4), randn(2, 3, 64, 64)),
    "dcgan-generator": (lambda: zoo.dcgan.Generator(8, 4), randn(2, 8)),
    "mobilenet-v2": (
        lambda: undrawn(zoo.mobilenet.MobileNetV2(10, 0.25)),
        randn(8, 3, 64, 64, seed=2),
    ),
    "resnet18": (lambda: zoo.resnet.ResNet(BASIC, (1, 1, 1, 1), classes=10), randn(2, 3, 64, 64)),
    "resnet50": (lambda: zoo.resnet.ResNet(BOTTLE, (1, 1, 1, 1), classes=10), randn(2, 3, 64, 64)),
    "row-transformer": (lambda: zoo.build("row-transformer"), randn(2, 1, 8, 8)),
    "unet": (lambda: zoo.unet.UNet(1, 3, (4, 8)), randn(2, 1, 8, 8)),
    "lstm-lm": (lambda: zoo.language.LSTMLanguageModel(width=8), TEXT),
}


def undrawn(model):
    """``model`` without what draws numbers, which no two runs share."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def gradients(model, x):
    """Outputs and gradients of one training step."""
    out = model(x)
    loss = (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).mean()
    wanted = [p for p in model.parameters() if p.requires_grad]
    return out.detach(), torch.autograd.grad(loss, wanted)


EVERY = [pytest.param(n, marks=() if n == "digits-cnn" else pytest.mark.slow) for n in SMALL]


@pytest.mark.parametrize("name", EVERY)
def test_one_library_serves_every_batch(name, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CXXFLAGS", "-O1")
    make, x = SMALL[name]
    model = build(0, make).eval()
    fast = dv.compile(copy.deepcopy(model), x, backward=False, dynamic=True)
    key = fast.units[0].key
    for batch in (1, 2, 5):
        given = torch.cat([x] * 3)[:batch]
        with torch.no_grad():
            expected = model(given)
            scale = float(expected.abs().max())
            torch.testing.assert_close(fast(given), expected, rtol=1e-4, atol=1e-4 * scale)
    assert [v.forward.key for v in fast._variants.values()] == [key]


@pytest.mark.parametrize("name", EVERY)
def test_a_training_step_is_eagers(name, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CXXFLAGS", "-O1")
    make, x = SMALL[name]
    model = build(0, make).train()
    fast = dv.compile(copy.deepcopy(model), x, check=False)
    wide = gradients(in_float64(model), in_float64(x))
    ours, theirs = gradients(fast, x), gradients(model, x)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-5)
    scale = max(float(g.abs().max()) for g in theirs[1])
    for mine, other, exact in zip(ours[1], theirs[1], wide[1], strict=True):
        if not as_near(mine, [other], exact):  # after fifty norms rounding is in the third digit
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4 * scale)
