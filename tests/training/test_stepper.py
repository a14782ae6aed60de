"""Steps: gradients from several batches, clipped, and in mixed precision."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.training import fit
from helpers import randn

X, Y = randn(24, 6), torch.arange(24) % 3


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def sgd(parameters: object, lr: float) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, lr=lr)  # type: ignore[arg-type]


def trained(model: nn.Module, size: int, **options: object) -> Tensor:
    batches = [(X[i : i + size], Y[i : i + size]) for i in range(0, 24, size)]
    fit(model, batches, lr=0.5, optimizer=sgd, schedule="constant", progress=False, **options)  # type: ignore[arg-type]
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def test_accumulated_batches_step_as_one() -> None:
    assert torch.allclose(trained(net(), 6, accumulate=2), trained(net(), 12), atol=1e-6)
    assert not torch.allclose(trained(net(), 6), trained(net(), 12), atol=1e-3)
    # 3 + 1 batches: the rest at the end is a step of its own, with the mean of what is there
    model = net()
    trained(model, 6, accumulate=3)
    by_hand = net()
    for rows in (slice(0, 18), slice(18, 24)):
        by_hand.zero_grad()
        nn.functional.cross_entropy(by_hand(X[rows]), Y[rows]).backward()
        with torch.no_grad():
            for p in by_hand.parameters():
                p -= 0.5 * p.grad  # type: ignore[operator]
    for a, b in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_gradient_is_clipped_as_a_whole() -> None:
    model = net()
    before = nn.utils.parameters_to_vector(net().parameters()).detach()
    after = trained(model, 24, clip_norm=1e-3)
    assert float((after - before).norm()) == pytest.approx(0.5e-3, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_is_torchs(precision: str) -> None:
    seen: list[torch.dtype] = []
    model = net()
    model[0].register_forward_hook(lambda m, a, y: seen.append(y.dtype))
    found = trained(model, 24, precision=precision)
    assert seen == [{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]]
    full = trained(net(), 24)
    assert torch.allclose(found, full, atol=1e-2)
    assert not torch.equal(found, full)


def test_autocast_changes_nothing_of_an_emulated_operation() -> None:
    recipe = dv.Recipe(dv.rule("*", input="int8", weight="int8", mul="mul8s_1KV9"))
    model = net()
    dv.apply_(model, recipe, X)
    plain = model(X)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(X)
    assert torch.equal(mixed, plain)
    twin = copy.deepcopy(model)
    assert torch.equal(trained(model, 12, precision="bf16"), trained(twin, 12))


def test_an_overflow_in_fp16_skips_its_step() -> None:
    model = nn.Linear(6, 3)
    before = model.weight.detach().clone()

    def huge(output: Tensor, target: Tensor) -> Tensor:
        return output.float().sum() * 1e30

    fit(model, [(X, Y)], loss=huge, lr=0.1, optimizer=sgd, precision="fp16", progress=False)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf8"}, "did you mean 'bf16'"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        trained(net(), 12, **options)
