"""Comparisons with eager: made once for all processes, unless anything has changed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.compiler import comparison
from helpers import randn

pytest.importorskip("dace")

NOW = "in this process"


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh()).train()
    state = copy.deepcopy(net.state_dict())
    fast = dv.compile(net, randn(5, 4))
    return net, fast, state


@pytest.fixture
def calls(monkeypatch):
    """Whether gradients were compared, of each comparison that is made."""
    found, real = [], comparison.check

    def check(*args, gradients):
        found.append(gradients)
        return real(*args, gradients=gradients)

    monkeypatch.setattr(comparison, "check", check)
    return found


def again(made, x=None, **options):
    return dv.compile(copy.deepcopy(made[0]), randn(5, 4) if x is None else x, **options)


def test_a_comparison_leaves_the_model_as_it_was(made):
    net, _, state = made
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_torch_is_told_of_buffers_that_are_written_in_place(made):
    fast = again(made)
    mean = fast.get_buffer("1.running_mean")
    before = mean.clone(), mean._version
    fast(randn(5, 4))
    assert not torch.equal(mean, before[0])
    assert mean._version > before[1]


def test_the_same_is_not_compared_again(made, calls):
    assert made[1].report().checked == NOW
    assert again(made).report().checked.startswith("in an earlier process, 20")
    assert calls == []
    fast = again(made, check="always")
    assert fast.report().checked == NOW
    assert calls == [True]
    assert again(made, check=False).report().checked == "no: check=False"
    assert calls == [True]


def another_weight(model):
    with torch.no_grad():
        model[0].weight.view(-1)[0] += 0.5


def another_buffer(model):
    model[1].running_var[0] += 1


@pytest.mark.parametrize("change", [another_weight, another_buffer])
def test_other_elements_are_compared(made, calls, change):
    net = copy.deepcopy(made[0])
    change(net)
    assert again((net,)).report().checked == NOW
    assert calls == [False]  # gradients were when it was made


def test_another_example_tolerance_or_environment_is_compared(made, calls, monkeypatch):
    again(made, randn(5, 4, seed=9))
    again(made, tolerance=0.01)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    again(made)
    assert calls == [False] * 3


def test_another_library_is_compared(made, calls):
    library = made[1].units[1].library.library
    raw = library.read_bytes()
    library.unlink()  # another file: this process has mapped the old one
    library.write_bytes(raw + b"\0")
    try:
        again(made)
    finally:
        library.unlink()
        library.write_bytes(raw)
    assert calls == [False]


@pytest.mark.slow
def test_random_numbers_are_not_compared(calls):
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    options = {"backward": False}
    assert dv.compile(copy.deepcopy(model), randn(2, 3), **options).report().checked == (
        "no: it draws random numbers"
    )
    found = dv.compile(copy.deepcopy(model), randn(2, 3), **options)
    assert found.report().capture == "found in the cache"
    assert len(calls) == 1  # to see which code it runs


def test_an_unknown_word_is_refused():
    with pytest.raises(dv.DovetailError, match=r"check.*'?sometimes'?"):
        dv.compile(nn.ReLU().eval(), randn(2), check="sometimes")
