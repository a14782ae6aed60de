"""What a mask follows, and how long it is kept."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dovetail as dv
from dovetail.sparsity import sparsity
from sparse_nets import X, apply, net, pruned


def test_masks_follow_the_weight_unless_fixed() -> None:
    for text, follows in (("topk(0.5)", True), ("topk(0.5, fixed)", False)):
        model = nn.Sequential(nn.Linear(4, 1, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
        apply(model, text, torch.ones(1, 4))
        with torch.no_grad():
            assert model(torch.eye(4)).flatten().tolist() == [4, 3, 0, 0]
            model[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
            expected = [0, 0, 3, 4] if follows else [1, 2, 0, 0]
            assert model(torch.eye(4)).flatten().tolist() == expected
        assert model(torch.eye(4)).flatten().tolist() == expected


def test_weights_and_masks_are_kept_until_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    apply(model, "topk(0.5)", weight="mxfp4")
    calls = []
    kind = type(sparsity("topk(0.5)").pattern)
    original = kind.mask
    monkeypatch.setattr(kind, "mask", lambda *a, **k: calls.append(1) or original(*a, **k))
    for _ in range(3):
        with torch.no_grad():
            model(X)
        model(X).sum().backward()
    assert len(calls) == 2  # once for each layer
    with torch.no_grad():
        model[0].weight.mul_(2)
        model(X)
    assert len(calls) == 3


def test_turned_weights_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(16, 8))
            self.bias = nn.Parameter(torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            return torch.addmm(self.bias, x, self.weight)

    model = Turned()
    expected = X @ pruned(model.weight.T, "topk(0.5)").T
    dv.apply_(model, dv.Recipe(dv.rule("*", sparsity="topk(0.5)")), X)
    calls = []
    kind = type(sparsity("topk(0.5)").pattern)
    original = kind.mask
    monkeypatch.setattr(kind, "mask", lambda *a, **k: calls.append(1) or original(*a, **k))
    with torch.no_grad():
        for _ in range(3):
            assert torch.allclose(model(X), expected, atol=1e-5)
        assert len(calls) == 1
        model.weight.neg_()
        assert torch.allclose(model(X), -expected, atol=1e-5)
    assert len(calls) == 2
    gone = weakref.ref(model.weight)
    del model
    gc.collect()
    assert gone() is None


def test_one_weight_may_have_two_masks() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(8, 8)
            self.head = nn.Linear(8, 8, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.table(ids))

    model, ids = Tied(), torch.arange(8)
    weight = model.head.weight.detach()
    expected = F.linear(pruned(weight, "1:4"), pruned(weight, "2:4"))
    rules = dv.rule("head", sparsity="2:4"), dv.rule("table", op="embedding", sparsity="1:4")
    dv.apply_(model, dv.Recipe(*rules), ids)
    with torch.no_grad():
        assert torch.equal(model(ids), expected)
        assert torch.equal(model(ids), expected)


@pytest.mark.parametrize("text", ["topk(0.3, fixed)", "2:4", "bernoulli(0.5, seed=3)"])
def test_copies_pickles_and_states_are_equal(text: str) -> None:
    model = net()
    apply(model, text, weight="int8", input="int8")
    with torch.no_grad():
        model[0].weight.neg_()
        expected = model(X)
        assert torch.equal(copy.deepcopy(model)(X), expected)
        assert torch.equal(pickle.loads(pickle.dumps(model))(X), expected)
        fresh = net()
        fresh.load_state_dict(model.state_dict())
        dv.load_state(fresh, safetensors.torch.load(safetensors.torch.save(dv.state(model))), X)
        assert torch.equal(fresh(X), expected)


def test_redrawn_masks_change_in_training_only_and_repeat_with_the_seed() -> None:
    model = net(nn.Linear(16, 8))
    apply(model, "bernoulli(0.5, redraw)")
    torch.manual_seed(3)
    first, second = model(X), model(X)
    torch.manual_seed(3)
    assert torch.equal(model(X), first)
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(X), model(X))


def test_layers_of_one_seed_draw_different_masks() -> None:
    model = net(nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False))
    apply(model, "bernoulli(0.5, seed=1)")
    masks = [layer(torch.eye(16)) == 0 for layer in model]
    assert not torch.equal(*masks)
