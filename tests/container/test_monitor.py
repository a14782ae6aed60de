"""Recording what goes through modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv


class Loop(nn.Module):
    """Calls itself, and works in place."""

    def forward(self, x, depth=0, *, more=None):
        if depth:
            return self(x, depth - 1)
        return x.add_(1)


def test_inputs_and_outputs_are_copies():
    net = Loop()
    x = torch.zeros(3)
    with dv.monitoring(net) as monitor:
        net(x, more=[x])
        net(x)
    first, second = monitor[""]
    assert torch.equal(first.args[0], torch.zeros(3))
    assert torch.equal(first.kwargs["more"][0], torch.zeros(3))
    assert torch.equal(first.output, torch.ones(3))
    assert torch.equal(second.output, torch.full((3,), 2.0))
    assert not net._forward_hooks
    assert not net._forward_pre_hooks


def test_calls_inside_calls_end_first():
    net = Loop()
    with dv.monitoring(net, keep_tensors=False) as monitor:
        net(torch.zeros(1), 2)
    assert len(monitor[""]) == 3
    assert monitor[""][0].args == ()
    assert monitor[""][0].seconds < monitor[""][2].seconds
    assert monitor.seconds[""] > monitor[""][2].seconds


def test_an_error_leaves_no_hooks():
    net = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RuntimeError), dv.monitoring(net) as monitor:
        net(torch.ones(1, 3))
    assert len(monitor["0"]) == 1
    assert monitor["0"][0].output is None
    assert not net[0]._forward_hooks


def test_globs_and_unknown_names():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with dv.monitoring(net, "[02]") as monitor:
        net(torch.ones(1, 2))
    assert list(monitor.records) == ["0", "2"]
    with pytest.raises(dv.DovetailError, match="unknown monitored module '1'"):
        monitor["1"]
    with (
        pytest.raises(dv.DovetailError, match="unknown module '7'"),
        dv.monitoring(net, "0", "7"),
    ):
        pass


def test_saved_records_are_read_back(tmp_path):
    net = nn.Linear(2, 2)
    dv.apply_(net, dv.Recipe(dv.rule(output="bf16")), torch.ones(1, 2))
    with dv.monitoring(net) as monitor:
        y = net(torch.ones(1, 2))
    monitor.save(tmp_path / "records.pt")
    back = torch.load(tmp_path / "records.pt")
    assert torch.equal(back[""][0]["output"], y)
