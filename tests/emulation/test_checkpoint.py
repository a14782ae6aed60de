"""Activation checkpointing recomputes what ran."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import dovetail as dv
from helpers import INT8, build, randn

RECIPE = dv.Recipe(dv.rule("*", **INT8))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_a_module_gives_the_same_gradients(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
            self.on = False

        def forward(self, x):
            return checkpoint(self.body, x, use_reentrant=reentrant) if self.on else self.body(x)

    model, x = build(0, Checkpointed), randn(3, 4)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8, mul="mul8s_1L2H@v1.1")), x)
    grads = []
    for model.on in (False, True):
        model.zero_grad()
        leaf = x.clone().requires_grad_()
        y = model(leaf)
        y.square().sum().backward()
        grads.append([y.detach(), leaf.grad, *(p.grad.clone() for p in model.parameters())])
    for plain, recomputed in zip(*grads, strict=True):
        assert torch.equal(plain, recomputed)


def test_a_checkpointed_function_is_recomputed_as_it_ran():
    class Twice(nn.Module):
        def __init__(self, checkpointed):
            super().__init__()
            self.checkpointed = checkpointed
            self.fc = nn.Linear(6, 6)

        def products(self, x):
            return self.fc(x @ x.mT) @ x

        def forward(self, x):
            first = x @ x.mT @ x  # shifts the call index of what is checkpointed
            if not self.checkpointed:
                return self.products(x) + first
            context = dv.checkpoint_context
            again = checkpoint(self.products, x, use_reentrant=False, context_fn=context)
            return again + first

    plain, saved = Twice(False), Twice(True)
    saved.load_state_dict(plain.state_dict())
    x = torch.randn(6, 6)
    gradients = []
    for net in (plain, saved):
        rules = [dv.rule("*", input="int4", weight="int4"), dv.rule(".:matmul_3", weight="int2")]
        dv.apply_(net, dv.Recipe(*rules), x)
        leaf = x.clone().requires_grad_()
        net(leaf).square().sum().backward()
        gradients.append((leaf.grad, net.fc.weight.grad))
        assert torch._C._len_torch_function_stack() == 0
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])
