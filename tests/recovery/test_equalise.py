"""Cross-layer equalisation: two layers share out the sizes of their channels."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail import zoo
from helpers import randn
from recovery.models import blocks, convs, emulated, error, everything, same


def test_two_layers_by_hand():
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[16.0], [1.0]]))
        model[0].bias.copy_(torch.tensor([8.0, 1.0]))
        model[2].weight.copy_(torch.tensor([[1.0, 4.0]]))
    done = dv.equalise(model, [randn(3, 1, dtype=torch.float64)])
    assert model[0].weight.tolist() == [[4.0], [2.0]]  # sqrt(16 * 1), sqrt(1 * 4)
    assert model[0].bias.tolist() == [2.0, 2.0]
    assert model[2].weight.tolist() == [[4.0, 2.0]]
    assert done["2"].what == "equalised with 0"
    assert done["2"].before == pytest.approx((1 * 0.25 + 1 / 16) / 2)
    assert done["2"].after == pytest.approx((1 + 0.25) / 2)


@pytest.mark.parametrize("make", [blocks, convs])
def test_the_function_stays_and_the_ranges_meet(make):
    model, batches = make()
    before, wanted = everything(model), [model(b).detach() for b in batches]
    done = dv.equalise(model, batches)
    assert {c.op for c in done} == ({"b", "c"} if make is convs else {"0.down", "1.down"})
    for batch, y in zip(batches, wanted, strict=True):
        assert float((model(batch).detach() - y).abs().max()) < 1e-12 * float(y.abs().max())
    if make is convs:
        a = model.a.weight.detach().abs().flatten(1).amax(1)
        b = model.b.weight.detach().abs().flatten(1).amax(1)
        assert torch.allclose(a, b, rtol=2e-3)
    done.undo()
    assert same(everything(model), before)


def test_per_tensor_weights_of_a_network_with_uneven_channels_lose_less():
    exact, batches = convs(torch.float32)
    model = copy.deepcopy(exact)
    emulated((model, batches), weight="int5(per_tensor)")
    before, untouched = error(model, exact, batches), everything(model)
    done = dv.equalise(model, batches)
    assert error(model, exact, batches) < 0.8 * before
    assert all(change.after > change.before for change in done)
    done.undo()
    assert same(everything(model), untouched)


def test_the_trained_digits_network():
    model = zoo.build("digits-cnn")
    model.load_state_dict(zoo.checkpoint("digits-cnn"))
    model = model.double().eval()
    x = randn(8, 1, 8, 8, dtype=torch.float64).abs()
    wanted = model(x).detach()
    with dv.equalise(model, [x]) as done:
        assert [c.op for c in done] == ["conv2", "conv3", "conv4", "conv5"]
        assert float((model(x).detach() - wanted).abs().max()) < 1e-12 * float(wanted.abs().max())
    assert torch.equal(model(x).detach(), wanted)


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (nn.ReLU6(), "its input comes from 1, through which no scale passes"),
        (nn.GELU(), "its input comes from 1, through which no scale passes"),
        (nn.BatchNorm1d(3), "its input comes from 1, through which no scale passes"),
    ],
)
def test_no_scale_passes_through_these(between, why):
    model = nn.Sequential(nn.Linear(2, 3), between, nn.Linear(3, 2)).eval()
    with pytest.raises(dv.DovetailError, match=f"no two layers can be equalised; of 2, {why}"):
        dv.equalise(model, [randn(3, 2)], select="2")


def test_zero_channels_and_weights_that_are_not_finite():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight[0] = 0
        model[2].weight[:, 1] = 0
    before = everything(model)
    dv.equalise(model, [randn(3, 2)])
    assert torch.equal(model[0].weight[:2], before["0.weight"][:2])
    with torch.no_grad():
        model[0].weight[2] = float("inf")
    before = everything(model)
    with pytest.raises(dv.DovetailError, match="the weights of 0 are not finite"):
        dv.equalise(model, [randn(3, 2)])
    assert same(everything(model), before)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 4, 3, stride=2)), (2, 3, 6, 6)),
        (
            (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.ReLU(True), nn.Conv2d(6, 4, 1, groups=2)),
            (2, 4, 6, 6),
        ),
        (
            (nn.Conv2d(3, 6, 3), nn.MaxPool2d(2), nn.LeakyReLU(), nn.Conv2d(6, 2, 1)),
            (2, 3, 12, 12),
        ),
        ((nn.Conv1d(3, 6, 3), nn.Dropout(), nn.AvgPool1d(2), nn.Conv1d(6, 2, 1)), (2, 3, 12)),
        ((nn.Linear(3, 6), nn.LeakyReLU(0.3), nn.Linear(6, 2)), (5, 3)),
        ((nn.Linear(3, 6), nn.Linear(6, 2)), (2, 5, 3)),
    ],
)
def test_layers_of_every_kind(layers, shape):
    model = copy.deepcopy(nn.Sequential(*layers)).double().eval()
    x = randn(*shape, dtype=torch.float64)
    before, wanted = everything(model), model(x).detach()
    for recipe, options in ((dv.equalise, {}), (dv.smoothquant, {"fuse": "only"})):
        done = recipe(model, [x], **options)
        assert not same(everything(model), before)
        assert float((model(x).detach() - wanted).abs().max()) < 1e-12
        done.undo()
        assert same(everything(model), before)
