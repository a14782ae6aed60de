"""What training sees of a mask: by mode, learned scores, compiled and under torch.func."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.errors import DovetailError
from sparse_nets import X, apply, net


@pytest.mark.parametrize(
    ("text", "of_weight", "of_scores"),
    [
        ("topk(0.5)", "dense", False),
        ("topk(0.5, backward=masked)", "masked", False),
        ("topk(0.5, score=learned, backward=joint)", "masked", True),
        ("topk(0.5, score=learned, backward=supermask)", "none", True),
    ],
)
@pytest.mark.parametrize("formats", [{}, {"weight": "int8", "input": "int8"}])
def test_gradients_of_the_modes(
    text: str, of_weight: str, of_scores: bool, formats: dict[str, str]
) -> None:
    model = nn.Sequential(nn.Linear(16, 8))
    apply(model, text, **formats)
    weight = model[0].weight
    (model(X) ** 2).sum().backward()
    gone = model(torch.eye(16)).sub(model[0].bias).T == 0
    if of_weight == "none":
        assert weight.grad is None
    else:
        assert weight.grad is not None
        assert bool((weight.grad[gone] != 0).any()) == (of_weight == "dense")
        assert weight.grad[~gone].any()
    scores = dict(model.named_parameters()).get("0._dovetail_linear_scores")
    assert (scores is not None) == of_scores
    if scores is not None:
        assert scores.grad is not None
        assert scores.grad.any()


def test_learned_scores_are_trained_and_no_part_of_the_users_state() -> None:
    model = net()
    before = list(model.state_dict())
    model.requires_grad_(False)
    apply(model, "topk(0.5, score=learned, backward=supermask)")
    assert list(model.state_dict()) == before
    assert model.load_state_dict(net().state_dict()).missing_keys == []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    first = model(X)
    torch.nn.functional.cross_entropy(first, torch.tensor([0, 1, 2, 3, 0])).backward()
    optimizer.step()
    assert not torch.equal(model(X), first)
    own = zip(model.state_dict().values(), net().state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in own)
    saved = dv.state(model)
    assert saved["0.scores"].shape == (8, 16)
    fresh = net()
    dv.load_state(fresh, saved, X)
    assert torch.equal(fresh(X), model(X))
    dv.remove_(model)
    assert [name for name, _ in model.named_parameters()] == before


def test_learned_scores_need_a_module_that_can_hold_them() -> None:
    model = net()
    model[0].forward = functools.partial(nn.Linear.forward, model[0])
    with pytest.raises(DovetailError, match="the nearest that works is score=magnitude"):
        apply(model, "topk(0.5, score=learned, backward=joint)")
    assert not [name for name, _ in model.named_parameters() if "dovetail" in name]


@pytest.mark.parametrize("formats", [{}, {"weight": "int8", "input": "int8"}])
@pytest.mark.parametrize("text", ["2:4", "topk(0.4, score=learned, backward=joint)"])
def test_compiled_and_exported_models_have_the_same_bits(
    formats: dict[str, str], text: str
) -> None:
    model = net()
    apply(model, text, **formats)
    expected = model(X)
    expected.sum().backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    for p in model.parameters():
        p.grad = None
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    y = compiled(X)
    y.sum().backward()
    assert torch.equal(y, expected)
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(grads, found, strict=True))
    with torch.no_grad():
        program = torch.export.export(model.eval(), (X,))
        assert torch.equal(program.module()(X), expected)
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("dovetail.mask.default") == 2


def test_gradients_under_torch_func() -> None:
    model = net()
    apply(model, "2:4", weight="int8", input="int8")
    (model(X) ** 2).sum().backward()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return (torch.func.functional_call(model, values, (X,)) ** 2).sum()

    for name, found in torch.func.grad(loss)(parameters).items():
        assert torch.allclose(found, dict(model.named_parameters())[name].grad)
