"""Passes over captured graphs: what they make, and that it computes the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.compiler.capture import capture
from dovetail.compiler.passes import default_passes
from dovetail.compiler.passes.constants import FROZEN
from helpers import randn

FUSED = torch.ops.mkldnn._convolution_pointwise
NORM = torch.ops.aten._native_batch_norm_legit_no_training.default
onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")


def optimised(model, x, *dropped):
    """The captured graph, its parameters frozen, after the default passes but for ``dropped``."""
    found = capture(model.eval(), (x,)).forward
    tensors = [*model.parameters(), *model.buffers()]
    for node, value in zip(found.graph.find_nodes(op="placeholder"), tensors, strict=False):
        node.meta[FROZEN] = value.detach()
    return default_passes().without(*dropped).on_graph(found)


def calls(graph):
    return [str(n.target) for n in graph.graph.nodes if n.op == "call_function"]


def check(model, x, *dropped):
    """The optimised graph, once it has computed what the model does."""
    graph = optimised(model, x, *dropped)
    with torch.no_grad():
        (mine,), expected = graph(x), model(x)
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert mine.stride() == expected.stride()
    return graph


def normed(norm):
    """Batch norm that has seen something."""
    for name, values in {**norm.state_dict(), "weight": norm.weight, "bias": norm.bias}.items():
        if values is not None and values.is_floating_point():
            values.data.uniform_(0.5, 2.0) if "var" in name else values.data.normal_()
    return norm


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 5, 5)),
        (nn.Conv1d(4, 6, 3, bias=False), nn.BatchNorm1d(6), (2, 4, 5)),
        (nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3, affine=False), (1, 2, 3, 3, 3)),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), nn.BatchNorm2d(6), (2, 4, 3, 3)),
        (nn.Linear(4, 6), nn.BatchNorm1d(6), (5, 4)),
        (nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), (5, 4)),
    ],
)
def test_batch_norm_is_folded_into_the_layer_before(layer, norm, shape):
    model = nn.Sequential(layer, normed(norm))
    assert str(NORM) not in calls(check(model, randn(*shape)))
    assert str(NORM) in calls(check(model, randn(*shape), "fold_batch_norm"))


def test_batch_norm_stays_where_the_layer_is_read_twice_or_its_channels_are_grouped_backwards():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 1), normed(nn.BatchNorm2d(2))

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    grouped = nn.Sequential(nn.ConvTranspose2d(4, 6, 2, groups=2), normed(nn.BatchNorm2d(6)))
    assert str(NORM) in calls(check(Twice(), randn(1, 2, 3, 3)))
    assert str(NORM) in calls(check(grouped, randn(1, 4, 3, 3)))


class Padded(nn.Module):
    """Padding, then a convolution."""

    def __init__(self, pad, value=0.0):
        super().__init__()
        self.pad, self.value, self.conv = pad, value, nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(F.pad(x, self.pad, value=self.value))


@pytest.mark.parametrize(
    ("pad", "value", "folded"),
    [
        ((1, 1, 2, 2), 0.0, True),
        ((1, 1), 0.0, True),
        ((1, 0, 1, 1), 0.0, False),
        ((1, 1, 1, 1), 1.0, False),
        ((-1, -1), 0.0, False),
    ],
)
def test_zeros_on_both_sides_become_the_convolutions_own(pad, value, folded):
    graph = check(Padded(pad, value), randn(1, 2, 6, 5))
    assert ("aten.constant_pad_nd.default" not in calls(graph)) is folded


@onednn
@pytest.mark.parametrize(
    "after",
    [
        nn.ReLU(),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.ReLU6(),
        nn.Hardtanh(-0.5, 0.25),
        nn.SiLU(),
        nn.Hardswish(),
        nn.LeakyReLU(0.3),
    ],
    ids=repr,
)
def test_an_activation_joins_the_convolution_before(after):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), after)
    graph = check(model, 3 * randn(2, 3, 5, 5))
    assert [c for c in calls(graph) if "clone" not in c] == [str(FUSED.default)]
    assert str(FUSED.default) not in calls(check(model, randn(2, 3, 5, 5), "fuse_epilogues"))


class Residual(nn.Module):
    """Two convolutions, added, through relu."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return F.relu(self.one(x) + self.two(x)) + 1


@onednn
def test_a_residual_sum_and_what_follows_it_join_one_of_its_convolutions():
    assert str(FUSED.binary) in calls(check(Residual(), randn(2, 3, 5, 5)))


@onednn
def test_gelu_and_what_is_read_twice_are_left():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x):
            y = self.conv(x)
            return y.relu() * y

    for model in (nn.Sequential(nn.Conv2d(2, 2, 1), nn.GELU()), Twice()):
        assert str(FUSED.default) not in calls(check(model, randn(1, 2, 3, 3)))


class Flattened(nn.Module):
    """An image whose channels are side by side, read row by row."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(36, 2)

    def forward(self, x):
        y = self.conv(x)
        return torch.cat([y.flatten(1), y.permute(0, 2, 3, 1).reshape(2, 36)]).view(4, 2, 18), y


def test_images_lie_channels_last_and_results_as_they_were():
    model, x = Flattened(), randn(2, 3, 5, 5)
    graph = optimised(model, x, "fuse_epilogues")
    (conv,) = graph.graph.find_nodes(op="call_function", target=torch.ops.aten.convolution.default)
    assert conv.meta["val"].is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for mine, expected in zip(graph(x), model(x), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
            assert mine.stride() == expected.stride()


class Constants(nn.Module):
    """What can be computed before any input is there, and what cannot."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(randn(4, 3))
        self.small = nn.Parameter(randn(1, 3))

    def forward(self, x):
        wide = self.small.expand(70_000, 3) * 2.0
        drawn = torch.rand_like(self.weight)
        return x @ (self.weight.exp() * 2 + 1).T, wide[:2], drawn


def test_what_depends_on_constants_alone_is_computed_once():
    model, x = Constants(), randn(2, 3)
    graph = optimised(model, x)
    made = calls(graph)
    assert "aten.exp.default" not in made
    assert "aten.mul.Tensor" in made  # of 70,000 rows: much larger than what it is made of
    assert any("rand" in name for name in made)
    with torch.no_grad():
        for mine, expected in zip(graph(x)[:2], model(x)[:2], strict=True):
            torch.testing.assert_close(mine, expected)


def test_passes_that_round_anew_stay_away_from_what_an_emulated_layer_reads():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        normed(nn.BatchNorm2d(4)),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 8),
        nn.BatchNorm1d(8),
        nn.Linear(8, 6),
        normed(nn.BatchNorm1d(6)),
    )
    x = randn(2, 3, 5, 5)
    dv.apply_(model.eval(), dv.Recipe(dv.rule("4", input="mxfp8_e4m3", weight="mxfp8_e4m3")), x)
    graph = optimised(model, x)
    made = calls(graph)
    assert made.count(str(NORM)) == 2  # after the convolution, and after the emulated layer
    assert "aten.convolution.default" in made
    frozen = [n for n in graph.graph.nodes if n.meta.get("attributes")]
    assert [str(n.target) for n in frozen] == ["dovetail.block_linear.default"]
    with torch.no_grad():
        torch.testing.assert_close(graph(x)[0], model(x), rtol=1e-5, atol=1e-6)
