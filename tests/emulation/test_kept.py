"""Weights' casts where gradients are recorded: one per update, and the same bits and gradients."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import dovetail as dv
from dovetail.emulation import casting
from dovetail.kernels import layer
from helpers import build, randn


class Loop(nn.Module):
    """One weight at several steps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x, steps=3):
        for _ in range(steps):
            x = torch.tanh(self.fc(x))
        return x


X = randn(4, 8)
FORMATS = ["mxfp4(block=4)", "fp8_e4m3", "int4", "int4(group=4)", "bfp(m=5, block=8)"]


def emulated(weight="mxfp4(block=4)", **fields):
    model = build(0, Loop)
    dv.apply_(model, dv.Recipe(dv.rule("*", weight=weight, **fields)), X)
    return model


@pytest.fixture
def casts(monkeypatch):
    """The casts that are really made, by slot."""
    made = []
    original = casting._cast

    def counted(x, fmt, slot, *rest, **named):
        made.append(slot)
        return original(x, fmt, slot, *rest, **named)

    monkeypatch.setattr(casting, "_cast", counted)
    return made


def step(model, x=X, **options):
    y = model(x, **options)
    y.square().sum().backward()
    return y.detach(), model.fc.weight.grad.clone()


@pytest.mark.parametrize("weight", FORMATS)
@pytest.mark.parametrize("grad", ["ste", "ste(unclipped)"])
def test_one_cast_for_each_update_and_the_same_gradients(casts, weight, grad):
    model = emulated(weight, grad=grad)
    with torch.no_grad():
        model.fc.weight[0, 0] = float("nan") if weight == "fp8_e4m3" else 9.0
        model.fc.weight[1, 1] = 1000.0
    plain = build(0, Loop)
    plain.load_state_dict(model.state_dict())
    for _ in range(3):
        del casts[:]
        y, found = step(model)
        assert casts.count("weight") == 1
        channel = 0 if weight == "int4" else None
        clip = grad == "ste" and not weight.startswith("int")
        w = plain.fc.weight.detach().requires_grad_()
        h = X
        for _ in range(3):
            h = torch.tanh(
                F.linear(h, dv.cast(w, weight, channel=channel, clip=clip), plain.fc.bias)
            )
        h.square().sum().backward()
        torch.testing.assert_close(y, h.detach(), rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(found, w.grad, equal_nan=True)
        model.zero_grad()
        with torch.no_grad():
            for each in (model, plain):
                each.fc.weight.mul_(0.75)


def test_evaluation_under_gradients_and_frozen_weights_cast_once(casts):
    model = emulated()
    model.eval()
    for _ in range(4):
        model(X)
    assert casts.count("weight") == 1
    model.fc.weight.requires_grad_(False)
    for _ in range(4):
        model(X.clone().requires_grad_()).sum().backward()
    assert casts.count("weight") == 2  # without a gradient of its own: kept apart


def test_inference_first_and_training_after():
    model, other = emulated(), emulated()
    with torch.inference_mode():
        y = model(X)
    got, grad = step(model)
    wanted, theirs = step(other)
    assert torch.equal(got, wanted)
    assert torch.equal(y, wanted)
    assert torch.equal(grad, theirs)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # apply_'s example run
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant):
    class Checkpointed(Loop):
        def forward(self, x, steps=3):
            for _ in range(steps):
                x = checkpoint(self.fc, x, use_reentrant=reentrant).tanh()
            return x

    model = build(0, Checkpointed)
    x = X.clone().requires_grad_()
    dv.apply_(model, dv.Recipe(dv.rule("*", weight="mxfp4(block=4)")), x)
    wanted, grad = step(emulated())
    for _ in range(2):  # made while hooks of the checkpoint are active, and found kept
        y, found = step(model, x)
        assert torch.equal(y, wanted)
        torch.testing.assert_close(found, grad)
        model.zero_grad()


def test_transforms_and_second_derivatives():
    model = emulated("fp8_e4m3")
    parameters = {n: p.detach() for n, p in model.named_parameters()}

    def loss(values):
        return torch.func.functional_call(model, values, (X,)).square().sum()

    _, grad = step(model)
    torch.testing.assert_close(torch.func.grad(loss)(parameters)["fc.weight"], grad)
    y = model(X).square().sum()
    (first,) = torch.autograd.grad(y, model.fc.weight, create_graph=True)
    first.square().sum().backward()
    assert model.fc.weight.grad.isfinite().all()


def test_changes_that_only_the_storage_sees():
    """As FSDP does it: the version stands still, and memory comes and goes."""
    model, other = emulated(), emulated()
    step(model)
    weight = model.fc.weight
    fresh = randn(8, 8, seed=5)
    size = weight.untyped_storage().nbytes()
    with torch.autograd._unsafe_preserve_version_counter(weight), torch.no_grad():
        weight.untyped_storage().resize_(0)
        weight.untyped_storage().resize_(size)
        weight.copy_(fresh)
        other.fc.weight.copy_(fresh)
    assert torch.equal(step(model)[0], step(other)[0])


def test_the_kept_cast_keeps_no_graph_and_no_weight():
    model = emulated()
    y, _ = step(model)
    x = X.clone().requires_grad_()
    model(x)
    graph = weakref.ref(x)
    del x
    gc.collect()
    assert graph() is None
    gone = weakref.ref(model.fc.weight)
    copy.deepcopy(model)(X).sum().backward()
    del model
    gc.collect()
    assert gone() is None
    assert y.isfinite().all()


def test_codes_are_packed_once_for_each_update(monkeypatch):
    made = []
    original = layer.weight_codes
    monkeypatch.setattr(layer, "weight_codes", lambda *args: made.append(1) or original(*args))
    model = emulated("int8", input="int8(dynamic)")
    other = copy.deepcopy(model)
    for _ in range(2):
        y, grad = step(model)
        model.zero_grad()
        with torch.no_grad():
            assert torch.equal(other(X), y)
            for each in (model, other):
                each.fc.weight.mul_(0.5)
    assert len(made) == 4  # two for each of both
    assert grad.any()
