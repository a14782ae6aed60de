"""What a compiled module notices of changes in the module that it was made of."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.compiler.state import state_of
from helpers import randn

pytest.importorskip("dace")

PATHS = ("0.weight", "0.bias", "1.running_mean")


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))


def test_tensors_are_those_that_stand_there_now():
    net = network()
    state = state_of(net, PATHS, True)
    assert [t is net.get_parameter(p) for t, p in zip(state(), PATHS[:2], strict=False)] == [
        True
    ] * 2
    net[0].weight = nn.Parameter(torch.zeros(3, 4))
    assert state()[0] is net[0].weight
    net.load_state_dict(network().state_dict())
    net.zero_grad()
    assert state() is not None


def half(net):
    net.half()


def double_of_one(net):
    net[1].double()


def another_shape(net):
    net[0].bias = nn.Parameter(torch.zeros(1))


def data_of_another_shape(net):
    net[0].bias.data = torch.zeros(5)


def other_strides(net):
    net[0].weight.data = torch.zeros(4, 3).t()


def frozen(net):
    net[0].bias.requires_grad_(False)


def removed(net):
    net[0].bias = None


def elsewhere(net):
    net[0].weight = nn.Parameter(torch.empty(3, 4, device="meta"))


def another_part(net):
    net[2] = nn.Dropout(0.5)


def another_mode(net):
    net[1].eval()


def another_class(net):
    net[2].__class__ = nn.Identity


def emulated(net):
    dv.apply_(net, dv.Recipe(dv.rule("0", input="int8", weight="int8")), randn(2, 4))


CHANGES = (
    half,
    double_of_one,
    another_shape,
    data_of_another_shape,
    other_strides,
    frozen,
    removed,
    elsewhere,
    another_part,
    another_mode,
    another_class,
    emulated,
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(change):
    net = network()
    state = state_of(net, PATHS, True)
    x = randn(2, 4)
    quick = state_of(net, PATHS, True, (x,))
    assert state() is not None
    assert [t is u for t, u in zip(quick.ready((x,)), (*state(), x), strict=True)] == [True] * 4
    change(net)
    assert state() is None
    assert quick.ready((x,)) is None


OTHERS = {
    "another size": randn(3, 4),
    "another number of dimensions": randn(2, 4, 1),
    "other strides": randn(4, 2).t(),
    "another type": randn(2, 4).double(),
    "a wanted gradient": randn(2, 4).requires_grad_(),
    "another class": nn.Parameter(randn(2, 4), requires_grad=False),
    "another device": torch.empty(2, 4, device="meta"),
    "no tensor": 2.0,
    "nothing": None,
}


def test_at_a_glance_only_arguments_of_one_kind_are_ready():
    quick = state_of(network(), PATHS, True, (randn(2, 4),))
    assert quick.ready((randn(2, 4, seed=1),)) is not None
    assert [name for name, other in OTHERS.items() if quick.ready((other,)) is not None] == []
    assert quick.ready(()) is quick.ready((randn(2, 4),) * 2) is None
    with torch.inference_mode():
        assert quick.ready((randn(2, 4),)) is None
    assert state_of(network(), PATHS, True, (1.0,)).ready((1.0,)) is None


def test_at_a_glance_the_first_dimension_may_be_free():
    quick = state_of(network(), PATHS, True, (randn(2, 4),), dynamic=True)
    assert quick.ready((randn(7, 4),)) is not None
    assert quick.ready((randn(7, 5),)) is None


def test_whether_gradients_are_wanted_matters_only_where_they_are_made():
    net = network()
    state = state_of(net, PATHS, False)
    frozen(net)
    assert state() is not None


def test_a_changed_model_is_compiled_anew_and_right():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).train()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    x = randn(2, 4).requires_grad_()
    fast = dv.compile(copy.deepcopy(net), x)
    assert fast(x).requires_grad
    for model in (net, fast):
        model.get_parameter("0.weight").requires_grad_()
    for model in (net, fast):
        model(x).square().sum().backward()
    torch.testing.assert_close(fast.get_parameter("0.weight").grad, net[0].weight.grad)
    for model in (net, fast):
        model.double()
    x = x.detach().double()
    torch.testing.assert_close(fast(x), net(x))


@pytest.mark.slow
def test_a_model_called_in_turn_with_two_shapes_gives_each_its_own():
    net = nn.Sequential(nn.Linear(4, 3)).eval()
    fast = dv.compile(net, randn(2, 4))
    with torch.no_grad():
        for x in (randn(2, 4), randn(5, 4), randn(2, 4, seed=1), randn(5, 4, seed=1)):
            torch.testing.assert_close(fast(x), net(x))
    assert len(fast._variants) == 2


def test_an_input_that_wants_a_gradient_gets_one():
    net = nn.Sequential(nn.Linear(4, 3)).train()
    x = randn(2, 4)
    fast = dv.compile(net, x)
    x.requires_grad_()
    (mine,) = torch.autograd.grad(fast(x).sum(), x)
    (other,) = torch.autograd.grad(net(x).sum(), x)
    torch.testing.assert_close(mine, other)
