"""SmoothQuant: the function stays, outlying channels shrink, everything can be undone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import build, randn
from recovery.models import blocks, convs, emulated, error, everything, same


def test_scales_by_hand():
    model = nn.Sequential(nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -4.0], [2.0, 1.0]]))
    batches = [torch.tensor([[8.0, 1.0]]).double(), torch.tensor([[-2.0, -9.0]]).double()]
    emulated((model, batches))
    dv.smoothquant(model, batches)
    scale = model[0]._dovetail_linear_transform0_scale
    assert torch.equal(scale, torch.tensor([(8 / 2) ** 0.5, (9 / 4) ** 0.5]).double())
    # The casts see x / s and w * s.
    with torch.no_grad():
        x, w = batches[0] / scale, model[0].weight * scale
        wide = torch.cat([b / scale for b in batches]).abs().max()
        wanted = dv.cast(x, "int8", scale=(wide / 127).float()) @ dv.cast(w, "int8", channel=0).mT
        assert torch.allclose(model(batches[0]), wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("make", [blocks, convs])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.8}, {"po2": True}, {"fuse": "never"}])
def test_under_exact_arithmetic_the_function_stays(make, options):
    model, batches = make()
    with torch.no_grad():
        wanted = [model(b) for b in batches]
        dv.apply_(model, dv.Recipe(dv.rule("*", output="SAME")), batches[0])
        done = dv.smoothquant(model, batches, **options)
        for batch, y in zip(batches, wanted, strict=True):
            assert float((model(batch) - y).abs().max()) < 1e-12 * float(y.abs().max())
    assert len(done) in (15, 4)


def test_what_is_proven_is_fused_into_what_feeds_it():
    model, batches = blocks()
    dv.apply_(model, dv.Recipe(dv.rule("*", weight="int8")), batches[0])
    done = dv.smoothquant(model, batches)
    where = {change.op: change.what for change in done}
    assert where["0.q"] == where["0.k"] == where["0.v"] == "scale in 0.n1"
    assert where["1.up"] == where["1.gate"] == "scale in 1.n2"
    assert where["0.down"] == "scale in 0.up"
    assert where["0.o"] == (
        "scale before its casts (its input comes from 0:matmul_1, through which no scale passes)"
    )
    convolutions, images = convs()
    dv.apply_(convolutions, dv.Recipe(dv.rule("*", weight="int8")), images[0])
    where = {change.op: change.what for change in dv.smoothquant(convolutions, images)}
    assert (where["b"], where["c"]) == ("scale in a", "scale in b")
    assert where["head"].startswith("scale before its casts (its input is not one")


def test_a_plain_model_takes_fused_scales_alone():
    model, batches = blocks()
    before, wanted = everything(model), model(batches[0]).detach()
    with pytest.raises(dv.DovetailError, match=r"the scale of 0\.o cannot be fused, as its input"):
        dv.smoothquant(model, batches)
    assert same(everything(model), before)
    done = dv.smoothquant(model, batches, fuse="only")
    assert done["0.o"].what.startswith("left, as its input comes from 0:matmul_1")
    assert done["0.down"].what == "scale in 0.up"
    assert not same(everything(model), before)
    assert float((model(batches[0]).detach() - wanted).abs().max()) < 1e-12
    assert list(model.state_dict()) == list(blocks()[0].state_dict())
    done.undo()
    assert same(everything(model), before)


def test_part_of_what_a_norm_feeds_is_not_fused():
    model, batches = blocks()
    with pytest.raises(dv.DovetailError, match=r"of 0\.q, its input goes to 0\.k, 0\.v as well"):
        dv.smoothquant(model, batches, select="0.q", fuse="only")


def _shared(model):
    model[1].weight = model[2].weight


def _unaffine(model):
    model[0] = nn.LayerNorm(4, elementwise_affine=False)


def _parametrized(model):
    nn.utils.parametrizations.weight_norm(model[1])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_shared, "1 shares its weight|2 shares its weight"),
        (_unaffine, "0 has no weight of its own"),
        (_parametrized, "1 has no weight of its own"),
    ],
)
def test_weights_that_are_not_an_operations_own_are_not_changed(spoil, why):
    model = build(0, lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)))
    spoil(model)
    with pytest.raises(dv.DovetailError, match=why):
        dv.smoothquant(model, [randn(3, 4)], select="1", fuse="only")


@pytest.mark.parametrize("options", [{}, {"fuse": "never"}, {"dynamic": True}])
def test_uneven_channels_lose_less(options):
    exact, batches = blocks(torch.float32)
    model = copy.deepcopy(exact)
    emulated((model, batches), input="int6", weight="int8")
    before, untouched = error(model, exact, batches), everything(model)
    done = dv.smoothquant(model, batches, **options)
    assert error(model, exact, batches) < 0.6 * before
    done.undo()
    assert same(everything(model), untouched)
    assert error(model, exact, batches) == before


def test_dynamic_scales_are_those_of_each_call():
    model = nn.Sequential(nn.Linear(2, 2, bias=False)).double()
    x = torch.tensor([[8.0, 1.0]]).double()
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8(dynamic)", weight="int8")), x)
    dv.smoothquant(model, [x * 100], dynamic=True, alpha=1.0)
    scale = x[0]  # alpha = 1: all of it in the weights
    wanted = dv.cast(x / scale, "int8") @ dv.cast(model[0].weight * scale, "int8", channel=0).mT
    assert torch.allclose(model(x), wanted, rtol=1e-12, atol=0)


def test_the_first_matmul_of_attention_when_it_is_named():
    exact, batches = blocks(torch.float32)
    model = copy.deepcopy(exact)
    emulated((model, batches), input="int8", weight="int8")
    done = dv.smoothquant(model, batches, select="?:matmul_0")
    assert [change.op for change in done] == ["0:matmul_0", "1:matmul_0"]
    assert torch.isfinite(model(batches[0])).all()
    # Each operand's range is that of what its cast sees.
    scale = model[0]._dovetail_matmul0_transform0_scale
    with torch.no_grad():
        queries = torch.cat([exact[0].q(exact[0].n1(b)) for b in batches])
    seen = model[0]._dovetail_matmul0_input_scale
    assert float(seen) == pytest.approx(float((queries / scale).abs().max()) / 127, rel=1e-5)


def test_repeating_gives_the_same_bits_and_stacking_is_undone():
    model, batches = emulated(blocks(torch.float32))
    before = everything(model)
    first = dv.smoothquant(model, batches)
    once = everything(model)
    second = dv.smoothquant(model, batches, alpha=0.7)
    assert not same(everything(model), once)
    with pytest.raises(dv.DovetailError, match="cannot be undone yet"):
        first.undo()
    second.undo()
    assert same(everything(model), once)
    first.undo()
    assert same(everything(model), before)
    dv.smoothquant(model, batches)
    assert same(everything(model), once)


def test_gradients_reach_the_parameters():
    model, batches = emulated(blocks(torch.float32))
    dv.smoothquant(model, batches)
    model(batches[0]).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_sparse_weights_keep_their_masks():
    model, batches = blocks(torch.float32)
    dv.apply_(model, dv.Recipe(dv.rule("*", weight="int8", sparsity="2:4")), batches[0])
    done = dv.smoothquant(model, batches)
    assert not any(change.what.startswith("scale in") for change in done)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha=1.5 lies in 0"),
        ({"alpha": float("nan")}, "alpha=nan lies in 0"),
        ({"fuse": "always"}, "unknown fuse 'always'"),
        ({"observer": "minmix"}, "unknown observer 'minmix'; did you mean 'minmax'"),
        ({"dynamic": True, "po2": True}, "dynamic=True finds its scale anew"),
    ],
)
def test_bad_options_are_refused(options, message):
    model, batches = emulated(blocks())
    before = everything(model)
    with pytest.raises(dv.DovetailError, match=message):
        dv.smoothquant(model, batches, **options)
    assert same(everything(model), before)


def test_channels_that_are_zero_stay_as_they_are():
    model = build(0, lambda: nn.Sequential(nn.Linear(3, 2)))
    with torch.no_grad():
        model[0].weight[:, 1] = 0
    x = randn(4, 3)
    x[:, 2] = 0
    emulated((model, [x]))
    dv.smoothquant(model, [x])
    assert model[0]._dovetail_linear_transform0_scale[1:].tolist() == [1.0, 1.0]
    assert torch.isfinite(model(x)).all()


class GemmaRMSNorm(nn.Module):
    """Scaled by 1 + weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * (1 + self.weight)


@pytest.mark.parametrize(
    ("norm", "shape", "why"),
    [
        (lambda: nn.LayerNorm((1, 4)), (3, 1, 4), "0 normalises several axes"),
        (lambda: nn.LayerNorm((2, 4)), (3, 2, 4), "0 normalises several axes"),
        (lambda: GemmaRMSNorm(), (3, 4), "0 multiplies by more than its weight"),
        (lambda: nn.BatchNorm1d(4), (3, 4, 4), "0 has its channels on another axis"),
        (lambda: nn.LayerNorm(4), (3, 4), ""),
        (lambda: nn.BatchNorm1d(4), (3, 4), ""),
    ],
)
def test_norms_that_take_a_scale_and_norms_that_do_not(norm, shape, why):
    model = build(0, lambda: nn.Sequential(norm(), nn.Linear(4, 4))).double().eval()
    x = randn(*shape, dtype=torch.float64)
    wanted = model(x).detach()
    if why:
        with pytest.raises(dv.DovetailError, match=why):
            dv.smoothquant(model, [x], fuse="only")
    else:
        assert dv.smoothquant(model, [x], fuse="only")["1"].what == "scale in 0"
    assert float((model(x).detach() - wanted).abs().max()) < 1e-12
