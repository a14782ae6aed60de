"""The function mode: nothing of it stays behind, and other modes work beside it."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

import dovetail as dv
from dovetail.emulation import exact, tap
from helpers import INT8, Small, build, hits, modes, randn, small


class Raising(nn.Module):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.fc, self.error, self.armed = nn.Linear(3, 3), error, False

    def forward(self, x):
        x = self.fc(x) @ torch.ones(3, 3)
        if self.armed:
            raise self.error
        return x


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, GeneratorExit])
def test_an_exception_in_forward_leaves_no_mode_behind(error):
    inner = Raising(error)
    model = nn.Sequential(inner)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), torch.ones(1, 3))
    inner.armed = True
    with pytest.raises(error):
        model(torch.ones(1, 3))
    assert modes() == 0
    inner.armed = False
    assert hits(model, torch.ones(1, 3)) == ["0.fc", "0:matmul"]
    a, b = randn(3, 3), randn(3, 3, seed=1)
    assert torch.equal(a @ b, torch.matmul(a, b))


def test_an_exception_with_a_users_mode_restores_the_users_stack():
    class Quiet(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    inner = Raising(KeyboardInterrupt)
    model = nn.Sequential(inner)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), torch.ones(1, 3))
    inner.armed = True
    with Quiet(), pytest.raises(KeyboardInterrupt):
        model(torch.ones(1, 3))
    assert modes() == 0


class Counting(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def test_a_users_mode_outside():
    model, x = small()
    wanted, ops = model(x), hits(model, x)
    with Counting() as mode:
        assert torch.equal(model(x), wanted)
        assert hits(model, x) == ops
        assert modes() == 1
    assert mode.seen
    assert modes() == 0


def test_a_users_mode_inside_forward_sees_the_calls_and_they_are_emulated():
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.mode = nn.Linear(3, 3), Counting()

        def forward(self, x):
            with self.mode:
                return self.fc(x) @ x.mT

    model, x = build(1, Inside), randn(4, 3)
    plain = model(x)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    assert hits(model, x) == ["fc", ".:matmul"]
    assert not torch.equal(model(x), plain)
    model.mode.seen.clear()
    model(x)
    assert F.linear in model.mode.seen
    assert modes() == 0


def test_device_context_inside_and_outside():
    class Meta(nn.Module):
        def forward(self, x):
            with torch.device("cpu"):
                return x @ torch.ones(3, 3)

    model, x = Meta(), randn(2, 3)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    assert hits(model, x) == [".:matmul"]
    with torch.device("cpu"):
        assert hits(model, x) == [".:matmul"]


def test_direct_forward_is_emulated():
    model, x = small()
    assert torch.equal(model.forward(x), model(x))
    fc = model.fc1
    v = randn(2, 64)
    assert torch.equal(fc.forward(v), fc(v))
    assert not torch.equal(fc.forward(v), F.linear(v, fc.weight, fc.bias))


def test_a_submodule_called_on_its_own_is_emulated():
    model, x = small()
    assert torch.equal(model.conv(x), nn.Sequential(model.conv)(x))
    assert hits(model, x) == ["conv", "fc1", "fc2", ".:matmul"]
    seen = []
    with tap(model, lambda op, call: seen.append(op.key)):
        model.conv(x)
    assert seen == ["conv"]


def test_threads():
    model, x = small()
    wanted = model(x)
    results: list[bool] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(10):
            results.append(torch.equal(model(x), wanted) and modes() == 0)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 80


def test_functional_call():
    model, x = small()
    doubled = {name: value * 2 for name, value in model.named_parameters()}
    other = build(0, Small).eval()
    other.load_state_dict(doubled)
    dv.apply_(other, dv.Recipe(dv.rule("*", **INT8)), x)
    for name, buffer in model.named_buffers():
        other.get_buffer(name).copy_(buffer)
    assert torch.equal(torch.func.functional_call(model, doubled, (x,)), other(x))


def test_exact_runs_the_original_and_taps_still_fire():
    model, x = small()
    plain = build(0, Small).eval()
    seen = []
    with exact(model), tap(model, lambda op, call: seen.append(op.key)):
        assert torch.equal(model(x), plain(x))
    assert seen == ["conv", "fc1", "fc2", ".:matmul"]
    assert not torch.equal(model(x), plain(x))
