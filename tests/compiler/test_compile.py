"""Compiled modules against eager ones: outputs, gradients, statistics, modes and shapes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.compiler.capture import capture
from helpers import randn

pytest.importorskip("dace")


class Net(nn.Module):
    """A little of everything: convolution, batch norm, pooling, residual, norm, GELU, softmax."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(36, 37)
        self.norm = nn.LayerNorm(37)
        self.head = nn.Linear(37, 3)

    def forward(self, x):
        y = torch.relu(self.bn(self.conv(x)))
        y = F.max_pool2d(y + F.pad(x, (0, 0, 0, 0, 0, 2)), 2).flatten(1)
        return self.head(F.gelu(self.norm(self.fc(y)))).log_softmax(-1)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    net = Net().train()
    return net, dv.compile(copy.deepcopy(net), randn(2, 2, 6, 6))


def test_training_gives_eagers_outputs_gradients_and_statistics(trained):
    net, fast = copy.deepcopy(trained[0]), trained[1]
    fast.load_state_dict(net.state_dict())
    for seed in range(3):
        x = randn(2, 2, 6, 6, seed=seed)
        losses = []
        for model in (net, fast):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            optimizer.zero_grad()
            loss = F.nll_loss(model(x), torch.tensor([0, 2]))
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    for (name, mine), other in zip(
        fast.state_dict().items(), net.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5, msg=name)
    assert fast.bn.num_batches_tracked == 3


def test_state_and_names_are_the_models_own(trained):
    net, fast = trained
    assert list(fast.state_dict()) == list(net.state_dict())
    assert [n for n, _ in fast.named_parameters()] == [n for n, _ in net.named_parameters()]


def test_what_is_inside_can_be_seen(trained):
    _, fast = trained
    assert "RowReduction" in str(fast.program)
    assert fast.sdfg.number_of_nodes() > 3
    assert fast.sdfg_backward.name == "backward"
    report = fast.report()
    assert {row.level for row in report.rows} == {"operator", "map", "scalar"}
    convolution = [r for r in report.at("map") if r.kind == "aten.convolution.default"]
    assert convolution[0].flops == 2 * (2 * 4 * 6 * 6) * (2 * 3 * 3)
    assert "update_in_place" in fast.passes


@pytest.mark.slow
def test_every_map_and_every_pass_is_timed(trained):
    _, fast = trained
    before = {name: value.clone() for name, value in fast.state_dict().items()}
    report = fast.report(timing=True)
    maps = report.at("map")
    assert {row.function for row in maps} == {"forward", "backward"}
    assert all(row.seconds >= 0 for row in maps)
    assert max(row.seconds for row in maps) > 0
    assert report.table().splitlines()[0].split()[-1] == "us"
    assert all(value.equal(before[name]) for name, value in fast.state_dict().items())
    passes = [line.split() for line in report.passes().splitlines()[1:]]
    assert [name for name, _ in passes] == list(fast.passes)


@pytest.fixture(scope="module")
def softmax():
    torch.manual_seed(0)
    return dv.compile(nn.Sequential(nn.Linear(5, 7), nn.Softmax(-1)).eval(), randn(3, 5))


@pytest.mark.slow
def test_another_shape_is_compiled_when_it_is_met(softmax):
    x = randn(2, 5)
    with torch.no_grad():
        torch.testing.assert_close(softmax(x), softmax._source(x))


def test_a_strange_number_goes_through_as_in_eager(softmax):
    x = randn(3, 5)
    x[0, 0], x[1, 1] = float("nan"), 1e30
    with torch.no_grad():
        torch.testing.assert_close(softmax(x), softmax._source(x), equal_nan=True)


@pytest.mark.slow
def test_a_wrong_transformation_is_refused():
    fast = dv.compile(nn.Sequential(nn.ReLU(), nn.Sigmoid()).eval(), randn(4, 4))

    def wrong(sdfg):
        for node, _ in sdfg.all_nodes_recursive():
            if getattr(node, "label", "") == "relu":
                node.code.as_string = "__o0 = __a0"

    with pytest.raises(dv.DovetailError, match="differs from eager"):
        fast.transform(wrong)


def test_options_are_refused_by_name():
    model = nn.ReLU().eval()
    with pytest.raises(dv.DovetailError, match="unknown pass 'fuse'"):
        dv.compile(model, randn(2), optimize=["fuse"])


def test_math_functions_agree_with_torch_also_at_the_ends():
    class Functions(nn.Module):
        def forward(self, x):
            return x.exp(), x.log(), x.tanh(), x.erf(), x.sigmoid()

    ends = torch.tensor([0.0, -0.0, 1e-40, -1e-40, 88.7, 89.5, -87.5, -100.0, -110.0, 1e30, -1e30])
    odd = torch.tensor([float("inf"), -float("inf"), float("nan")])
    x = torch.cat([ends, odd, torch.linspace(-12, 12, 4001), torch.logspace(-44, 38, 2000)])
    fast = dv.compile(Functions().eval(), x)
    exact = Functions()(x.double())
    tiny = (2e-45, 2e-45, 2e-45, 2e-45, 2e-38)  # 1 / (1 + exp(100)) is 0 in float32
    for mine, other, atol in zip(fast(x), exact, tiny, strict=True):
        torch.testing.assert_close(mine, other.float(), rtol=3e-7, atol=atol, equal_nan=True)


def emulated():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 4)
    )
    x = randn(3, 1, 6, 6)
    dv.apply_(net, dv.Recipe(dv.rule("*", input="int8", weight="int8", mul="mul8s_1KV9")), x)
    return net, x


def test_an_emulated_model_has_the_emulations_bits():
    net, x = emulated()
    fast = dv.compile(net.eval(), x)
    with torch.no_grad():
        assert torch.equal(fast(x), net(x))


@pytest.mark.slow
def test_an_emulated_model_trains_with_the_emulations_bits():
    net, x = emulated()
    fast = dv.compile(net.train(), x)
    for model in (fast, net):
        model.zero_grad()
        y = model(x)
        y.square().sum().backward()
        if model is fast:
            outputs, grads = y.detach(), [p.grad.clone() for p in net.parameters()]
    assert torch.equal(outputs, y)
    for mine, parameter in zip(grads, net.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_several_extremes_of_one_row_are_one_group():
    fast = dv.compile(Extremes().eval(), randn(4, 40))
    x = randn(4, 40)
    x[1, 3] = float("nan")
    for mine, other in zip(fast(x), Extremes()(x), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0, equal_nan=True)


class Extremes(nn.Module):
    """A row's largest and smallest elements, and those of all."""

    def forward(self, x):
        y = torch.relu(x)
        return y.amax(1), y.amin(1), x.amin(1), x.max(), x.abs().amax(0)


@pytest.mark.slow
def test_one_build_serves_every_batch_size():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.GELU()).train()
    fast = dv.compile(copy.deepcopy(net), randn(3, 5), dynamic=True)
    for batch in (2, 7, 64):
        x = randn(batch, 5, seed=batch)
        for model in (net, fast):
            model.zero_grad()
            model(x).square().sum().backward()
        for mine, other in zip(fast.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-4)
    assert len(fast._variants) == 1


class Bits(nn.Module):
    """The low bits of numbers dropped, as casts to narrow formats do."""

    def forward(self, x):
        short, long = x.view(torch.int32), x.double().view(torch.int64)
        return (short >> 3 << 3).view(torch.float32), (long >> 40 << 40).view(torch.float64)


@pytest.mark.slow
def test_bits_of_numbers_are_read_as_other_types():
    x = randn(5, 7)
    for mine, other in zip(dv.compile(Bits().eval(), x)(x), Bits()(x), strict=True):
        assert torch.equal(mine, other)


class Backwards(nn.Module):
    """What runs backwards through memory goes into a kernel of torch, and out."""

    def forward(self, x):
        return torch.cumsum(x.flip(-1), -1), (2 * x).flip(0)


def test_flipped_tensors_reach_torchs_kernels():
    x = randn(2, 3, 4)
    fast = dv.compile(Backwards(), x)
    assert all(map(torch.equal, fast(x), Backwards()(x)))


def test_a_part_used_under_two_names_keeps_its_parameters():
    part = nn.Linear(3, 3)
    model = nn.Sequential(part, nn.ReLU(), part).train()
    state = [part.weight, part.bias]
    found = capture(model, (randn(2, 3),), backward=True)
    assert found.parameters == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert part.weight is state[0]
    assert part.bias is state[1]
