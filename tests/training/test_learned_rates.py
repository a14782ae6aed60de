"""Learned steps move in proportion to their size under optimizers that ignore a gradient's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.training.learned_rates import give_learned_steps_their_rates
from helpers import randn


def _learned(cast="lsq"):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    recipe = dv.Recipe(dv.rule("*", input="int8", weight="int8", grad=f"ste({cast})"))
    dv.apply_(net, recipe, randn(4, 8))
    return net


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.ASGD])
def test_descent_in_proportion_to_the_gradient_keeps_its_one_rate(make):
    net = _learned()
    optimizer = make(net.parameters(), lr=0.1)
    give_learned_steps_their_rates(optimizer, net)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1]


@pytest.mark.parametrize("cast", ["lsq", "pact"])
def test_every_step_has_about_its_size_times_the_rate_and_nothing_is_lost(cast):
    net = _learned(cast)
    before = {id(p) for p in net.parameters()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    give_learned_steps_their_rates(optimizer, net)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates.keys() == before
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(before)
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.5}
    steps = [p for n, p in dv.learned_parameters(net).items() if n.endswith(".scale")]
    for step in steps:
        assert 0.7 < rates[id(step)] / (0.1 * float(step.detach().mean())) < 1.42
    assert sum(rate == 0.1 for rate in rates.values()) == len(before) - len(steps)


def test_a_group_of_steps_that_the_user_made_keeps_its_rate():
    net = _learned()
    steps = list(dv.learned_parameters(net).values())
    others = [p for p in net.parameters() if all(p is not s for s in steps)]
    optimizer = torch.optim.Adam([{"params": others}, {"params": steps, "lr": 0.03}], lr=0.1)
    give_learned_steps_their_rates(optimizer, net)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.03]


def test_a_rate_that_suits_the_weights_does_not_throw_the_steps_about():
    x = randn(256, 8)
    batches = [(part, part[:, :3].argmax(1)) for part in x.split(16)]
    net = _learned()
    first = {name: step.detach().clone() for name, step in dv.learned_parameters(net).items()}
    dv.fit(net, batches, epochs=4, lr=0.02, schedule="constant", seed=0, progress=False)
    assert (net(x).argmax(1) == x[:, :3].argmax(1)).float().mean() > 0.9
    for name, step in dv.learned_parameters(net).items():
        ratio = step.detach() / first[name]
        assert (ratio > 0.2).all(), name
        assert (ratio < 5).all(), name
        assert (ratio != 1).any(), name
