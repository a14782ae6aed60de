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
from dovetail._eager import is_only_recorded, is_unwatched
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


def test_autograd_alone_or_with_others():
    x, weight = randn(2, 5), nn.Parameter(randn(3, 5))
    assert is_only_recorded(x, weight)
    assert not is_only_recorded(x, None)
    with torch.no_grad():
        assert not is_only_recorded(x, weight)
    with Seeing():
        assert not is_only_recorded(x, weight)
    assert not is_only_recorded(x.as_subclass(Strange), weight)


@pytest.mark.parametrize("kind", ["linear", "conv", "matmul"])
def test_gradients_are_those_of_the_dispatched_op(kind):
    """Where autograd alone is watching, the op is not dispatched; under a mode it is."""
    x, weight, bias = randn(2, 4, 5), randn(6, 4, 3), randn(6)
    if kind != "conv":
        x, weight = randn(2, 3, 4), randn(6, 4) if kind == "linear" else randn(2, 4, 6)
    given = (x, weight) if kind == "matmul" else (x, weight, bias)
    call = {
        "linear": torch.nn.functional.linear,
        "conv": lambda *operands: torch.nn.functional.conv1d(*operands, padding=1),
        "matmul": torch.matmul,
    }[kind]

    class Net(nn.Module):
        def forward(self, *operands):
            return call(*operands)

    net = Net()
    dv.apply_(net, dv.Recipe(dv.rule("*", **INT8, mul="mul8s_1KX5", grad="lut2d(window=4)")), given)
    results = []
    for watching in (None, Seeing()):
        leaves = [t.clone().requires_grad_() for t in given]
        if watching is None:
            y = net(*leaves)
        else:
            with watching:
                y = net(*leaves)
            assert any(op.startswith(f"dovetail.{kind}") for op in watching.ops)
        assert type(y.grad_fn).__name__.startswith("Recorded") == (watching is None)
        results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


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
