"""Results whose memory nobody holds any more give it to the next call; others stay as they are."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import randn

pytest.importorskip("dace")

HOLDERS = {
    "the tensor": lambda y: y,
    "a view": lambda y: y[1:],
    "an array": lambda y: y.numpy(),
    "what is detached": lambda y: y.detach(),
    "the storage": lambda y: y.untyped_storage(),
    "an exchanged tensor": torch.from_dlpack,
}


@pytest.fixture(scope="module")
def layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.Sigmoid(), nn.Linear(64, 8)).eval()
    return model, dv.compile(model, randn(4, 8))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.Sigmoid(), nn.Linear(64, 8))
    return model, dv.compile(model, randn(4, 8), backward=True)


def test_memory_that_nobody_holds_is_used_again(layer):
    _, fast = layer
    with torch.no_grad():
        first = fast(randn(4, 8)).data_ptr()
        assert {fast(randn(4, 8)).data_ptr() for _ in range(3)} == {first}


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_is_held_stays_as_it_is(layer, holder):
    model, fast = layer
    with torch.no_grad():
        held = HOLDERS[holder](fast(randn(4, 8)))
        before = held.tolist()
        later = [fast(randn(4, 8)) for _ in range(3)]
        assert held.tolist() == before
        assert len({y.data_ptr() for y in later}) == 3
        x = randn(4, 8)
        torch.testing.assert_close(fast(x), model(x))


def test_memory_that_was_given_away_is_not_used(layer):
    model, fast = layer
    x = randn(4, 8)
    with torch.no_grad():
        fast(x).untyped_storage().resize_(0)
        torch.testing.assert_close(fast(x), model(x))


def test_results_are_made_in_and_out_of_inference_mode(trained):
    model, fast = trained
    fast.units[1].release()
    fast.units[0].release()
    x = randn(4, 8)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), model(x))
    check_gradients(model, fast, x)
    assert not any(p.grad.is_inference() for p in model.parameters())


def gradients(model, call):
    """The gradients of the model's parameters after ``call``, which adds to them."""
    call()
    return [p.grad.clone() for p in model.parameters()]


def check_gradients(model, fast, x):
    model.zero_grad()
    expected = gradients(model, lambda: model(x).square().sum().backward())
    model.zero_grad()
    found = gradients(model, lambda: fast(x).square().sum().backward())
    torch.testing.assert_close(found, expected)


def test_what_forward_saves_waits_for_its_backward(trained):
    model, fast = trained
    xs = [randn(4, 8) for _ in range(3)]
    model.zero_grad()
    expected = gradients(model, lambda: sum(model(x).square().sum() for x in xs).backward())
    model.zero_grad()
    outputs = [fast(x) for x in xs]
    found = gradients(model, lambda: sum(y.square().sum() for y in outputs).backward())
    torch.testing.assert_close(found, expected)


def test_a_graph_that_is_retained_is_run_again(trained):
    model, fast = trained
    x = randn(4, 8)
    model.zero_grad()
    loss = fast(x).square().sum()
    loss.backward(retain_graph=True)
    once = [p.grad.clone() for p in model.parameters()]
    fast(randn(4, 8)).sum().backward()
    model.zero_grad()
    loss.backward()
    torch.testing.assert_close([p.grad for p in model.parameters()], once)


def test_gradients_are_the_parameters_own_until_they_are_dropped(trained):
    model, fast = trained
    for _ in range(3):
        check_gradients(model, fast, randn(4, 8))
    held = [p.grad for p in model.parameters()]
    before = [g.clone() for g in held]
    for _ in range(3):
        check_gradients(model, fast, randn(4, 8))
    torch.testing.assert_close(held, before, rtol=0, atol=0)


def test_a_call_of_another_shape_gives_memory_back(layer):
    _, fast = layer
    with torch.no_grad():
        y = fast(randn(4, 8))
        storage = y.untyped_storage()
        kept = torch._C._storage_Use_Count(storage._cdata)
        fast(randn(5, 8))
        assert torch._C._storage_Use_Count(storage._cdata) < kept


def test_threads_have_results_of_their_own(layer):
    model, fast = layer
    xs = [randn(4, 8) for _ in range(4)]
    with torch.no_grad():
        expected = [model(x) for x in xs]
    wrong = []

    def run(number):
        with torch.no_grad():
            for _ in range(300):
                if not torch.allclose(fast(xs[number]), expected[number]):
                    wrong.append(number)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
