"""MobileNetV2, U-Net, DCGAN and a language model: sizes, and that every operation is reached."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

import dovetail as dv
from dovetail import zoo
from dovetail.emulation import exact
from helpers import build, hits, randn

TEXT = torch.arange(24).reshape(2, 12) % 17
SMALL = {
    "mobilenet-v2": (lambda: zoo.mobilenet.MobileNetV2(10, 0.25), randn(1, 3, 32, 32)),
    "unet": (lambda: zoo.unet.UNet(1, 3, (4, 8, 16)), randn(1, 1, 8, 12)),
    "dcgan-generator": (lambda: zoo.dcgan.Generator(8, 4), randn(2, 8)),
    "dcgan-discriminator": (lambda: zoo.dcgan.Discriminator(4), randn(2, 3, 64, 64)),
    "lstm-lm": (lambda: zoo.language.LSTMLanguageModel(width=16), TEXT),
}
KINDS = {
    "mobilenet-v2": {
        "conv": 52,
        "batch_norm": 52,
        "relu6": 35,
        "add": 11,
        "avg_pool": 1,
        "dropout": 1,
        "linear": 1,
    },
    "unet": {
        "conv": 11,
        "batch_norm": 10,
        "relu": 10,
        "max_pool": 2,
        "conv_transpose": 2,
        "cat": 2,
    },
    "dcgan-generator": {"conv_transpose": 5, "batch_norm": 4, "relu": 4, "tanh": 1},
    "dcgan-discriminator": {"conv": 5, "batch_norm": 3, "leaky_relu": 4},
    "lstm-lm": {"embedding": 1, "linear": 5, "sigmoid": 6, "tanh": 4},
}
EVERYTHING = dv.Recipe(
    dv.rule(op="*", input="bf16", weight="bf16", output="bf16"),
    dv.rule(op="elementwise", other="bf16", optional=True),
)


@pytest.mark.parametrize("name", SMALL)
def test_every_operation_is_reached_and_nothing_else_changes(name):
    make, x = SMALL[name]
    model = build(0, make).eval()
    with torch.no_grad():
        plain = model(x)
        plan = dv.apply_(model, EVERYTHING, x)
        assert Counter(op.kind for op in plan) == KINDS[name]
        assert not plan.left_exact
        assert not plan.uncovered
        emulated = model(x)
        assert set(hits(model, x)) == {op.key for op in plan}
        assert not torch.equal(emulated, plain)
        torch.testing.assert_close(emulated, plain, rtol=0, atol=0.1 * float(plain.abs().max()))
        with exact(model):
            torch.testing.assert_close(model(x), plain)
        dv.remove_(model)
        assert torch.equal(model(x), plain)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mobilenet-v2", 3_504_872),
        ("unet", 1_942_594),
        ("dcgan-generator", 3_576_704),
        ("dcgan-discriminator", 2_765_568),
        ("lstm-lm", 297_088),
    ],
)
def test_sizes(name, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in zoo.build(name).parameters()) == parameters


def test_published_checkpoints_of_mobilenet_would_load():
    with torch.device("meta"):
        keys = zoo.build("mobilenet-v2").state_dict().keys()
    assert len(keys) == 314
    assert {
        "features.0.0.weight",
        "features.1.conv.1.weight",
        "features.17.conv.2.weight",
        "features.18.1.running_var",
        "classifier.1.bias",
    } <= keys
