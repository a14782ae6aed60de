"""Frozen parameters: the same results, and every change of one is noticed."""

from __future__ import annotations

import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from helpers import randn

pytest.importorskip("dace")
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")


class Net(nn.Module):
    """Everything that the passes over graphs make one node of."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.gate, self.bound, self.up = (
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 8, 1),
            nn.ConvTranspose2d(8, 2, 2, 2),
        )
        self.head, self.last = nn.Linear(72, 5, bias=False), nn.BatchNorm1d(5)

    def forward(self, x):
        y = F.relu(self.norm(self.stem(F.pad(x, (1, 1, 1, 1)))))
        z = F.relu(self.point(F.hardswish(self.depthwise(y))) + y)
        z = self.up(F.relu6(self.bound(F.leaky_relu(self.gate(z), 0.1))))
        return self.last(self.head(z.flatten(1)))


@pytest.fixture(scope="module")
def nets():
    torch.manual_seed(0)
    net, x = Net().eval(), randn(2, 3, 3, 3)
    return net, dv.compile(net, x, freeze=True), x


def agree(net, fast, x):
    with torch.no_grad():
        torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5, equal_nan=True)


def test_a_frozen_module_computes_the_same_also_of_nan(nets):
    net, fast, x = nets
    agree(net, fast, x)
    strange = x.clone()
    strange[0, 0, 1, 1], strange[1, 1, 0, 0] = float("nan"), float("inf")
    agree(net, fast, strange)
    rows = fast.report().at("map")
    flops = {row.kind: row.flops for row in rows if "_convolution_pointwise" in row.kind}
    assert flops["mkldnn._convolution_pointwise.binary"] == 2 * (2 * 8 * 3 * 3) * 8


def test_every_change_of_a_parameter_is_noticed(nets):
    net, fast, x = nets

    def in_place():
        with torch.no_grad():
            net.stem.weight[0, 0, 0, 0] += 1.0

    def through_data():
        net.point.weight.data.mul_(2.0)

    def replaced():
        fast.gate.weight = nn.Parameter(randn(8, 8, 1, 1))

    def statistics():
        net.norm.running_mean.add_(0.5)

    def loaded():
        net.load_state_dict({k: v * 0.75 for k, v in net.state_dict().items()})

    for change in (in_place, through_data, replaced, statistics, loaded):
        before = fast(x)
        change()
        agree(net, fast, x)
        assert not fast(x).equal(before), change
        made = fast._current
        agree(net, fast, x)
        assert fast._current is made


def test_two_modules_of_one_library_keep_their_own_weights(nets):
    net, fast, x = nets
    other = Net().eval()
    theirs = dv.compile(other, x, freeze=True)
    for _ in range(2):
        agree(net, fast, x)
        agree(other, theirs, x)
    del theirs
    agree(net, fast, x)


def test_freezing_is_for_inference(nets):
    net, _, x = nets
    with pytest.raises(dv.DovetailError, match=r"freeze=True .* for inference"):
        dv.compile(net, x, freeze=True, backward=True)
    fast = dv.compile(nn.ReLU().eval(), x, freeze=True).train()
    with pytest.raises(dv.DovetailError, match=r"freeze=True .* for inference"):
        fast(x)


def test_frozen_emulated_layers_have_the_emulations_bits():
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(64, 8), nn.Linear(8, 4)),
    )
    x = randn(3, 2, 6, 6)
    rules = [
        dv.rule(name, input=fmt, weight=fmt, bias=fmt)
        for name, fmt in (("4", "int8"), ("5", "mxfp8_e4m3"))
    ]
    dv.apply_(net.eval(), dv.Recipe(*rules), x)
    fast = dv.compile(net, x, freeze=True)
    with torch.no_grad():
        assert fast(x).equal(net(x))
        net[4].weight.mul_(3.0)
        assert fast(x).equal(net(x))
