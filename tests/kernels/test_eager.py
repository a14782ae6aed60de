"""Ops are computed without torch's dispatch only where nobody could tell."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import dovetail as dv
from dovetail._eager import is_unwatched
from helpers import INT8, build, randn


class Seeing(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.ops: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops.append(str(func))
        return func(*args, **(kwargs or {}))


class Silent(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Strange(torch.Tensor):
    pass


def emulated() -> tuple[nn.Module, torch.Tensor]:
    model, x = build(0, lambda: nn.Sequential(nn.Linear(5, 3))), randn(2, 5)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    return model, x


def test_ordinary_tensors_without_gradients():
    x, weight = randn(2, 5), nn.Parameter(randn(3, 5))
    assert not is_unwatched(x, weight)
    with torch.no_grad():
        assert is_unwatched(x, weight, None)
    with torch.inference_mode():
        assert is_unwatched(x, weight)
    assert not is_unwatched(x.as_subclass(Strange), None)


@pytest.mark.parametrize(
    "watching",
    [
        Seeing,
        Silent,
        lambda: torch.autocast("cpu"),
        lambda: torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
        forward_ad.dual_level,
    ],
    ids=["dispatch", "function", "autocast", "profiler", "forward-gradients"],
)
def test_whatever_watches_sees_the_op(watching):
    x = randn(2, 5)
    with watching():
        assert not is_unwatched(x)
    assert is_unwatched(x)


def test_transforms_and_tracing_see_the_op():
    seen = []

    def watch(x):
        seen.append(is_unwatched(x))
        return x + 1

    torch.vmap(watch)(randn(2, 5))
    torch.func.grad(lambda x: watch(x).sum())(randn(2))
    make_fx(watch)(randn(2))
    torch.jit.trace(watch, (randn(2),), check_trace=False)
    assert seen == [False] * 4


def test_a_dispatch_mode_and_the_profiler_name_the_op_and_change_no_bit():
    model, x = emulated()
    with torch.no_grad():
        plain = model(x)
        with Seeing() as mode:
            assert torch.equal(model(x), plain)
        with torch.profiler.profile() as profile:
            assert torch.equal(model(x), plain)
    assert "dovetail.linear.default" in mode.ops
    assert "dovetail::linear" in [event.name for event in profile.events()]
    assert torch.equal(model(x).detach(), plain)  # dispatched, for its gradient


def test_autocast_changes_no_bit():
    for realisation in ("torch-factored", "native-factored"):
        if realisation not in dv.kernels.realisations():
            continue
        with dv.kernels.using(realisation), torch.no_grad():
            model, x = emulated()
            plain = model(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert torch.equal(model(x), plain)


def test_results_may_be_changed_in_place():
    model, x = emulated()
    with torch.no_grad():
        y = model(x)
    y.mul_(2)
    y.requires_grad_().add(1).sum().backward()
