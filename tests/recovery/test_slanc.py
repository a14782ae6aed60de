"""SLaNC: constants by hand for every form of block, and sums that fp16 then holds."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import build, randn
from recovery.models import everything, same

FP16 = dv.Recipe(dv.rule(op="norm", fn="norm(format=fp16)"))


class Attention(nn.Module):
    """One block of attention between two norms; ``kv`` heads are shared by all ``heads``."""

    def __init__(self, width: int = 8, heads: int = 4, kv: int = 2, packed: bool = False) -> None:
        super().__init__()
        self.heads, self.kv, self.size = heads, kv, width // heads
        self.before, self.after = nn.LayerNorm(width), nn.RMSNorm(width)
        self.q, self.o = nn.Linear(width, width), nn.Linear(width, width)
        self.k, self.v = (nn.Linear(width, kv * self.size) for _ in range(2))
        self.both = nn.Linear(width, 2 * kv * self.size) if packed else None

    def forward(self, x):
        h = self.before(x)
        k, v = (self.k(h), self.v(h)) if self.both is None else self.both(h).chunk(2, -1)
        q = self.q(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (t.unflatten(-1, (self.kv, -1)).transpose(1, 2) for t in (k, v))
        k, v = (t.repeat_interleave(self.heads // self.kv, 1) for t in (k, v))
        y = torch.softmax(q @ k.mT, -1) @ v
        return self.after(x + self.o(y.transpose(1, 2).flatten(-2)))


class FeedForward(nn.Module):
    """A feed-forward block between two norms, gated or not."""

    def __init__(self, gated: bool, width: int = 8, inner: int = 12) -> None:
        super().__init__()
        self.before, self.after = nn.RMSNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.gate = nn.Linear(width, inner) if gated else None

    def forward(self, x):
        h = self.before(x)
        up = self.up(h)
        h = torch.relu(up) if self.gate is None else torch.sigmoid(self.gate(h)) * up
        return self.after(x + nn.functional.dropout(self.down(h), 0.1, self.training))


def _made(make):
    model = build(0, make).double().eval()
    with torch.no_grad():
        model.before.weight.copy_(1 + randn(8, seed=3).abs())
    x = randn(2, 5, 8, dtype=torch.float64)
    return model, x


def _factor(model, kind="layer_norm"):
    return float(getattr(model.after, f"_dovetail_{kind}_transform0_factor"))


def test_attention_by_hand():
    model, x = _made(Attention)
    dv.apply_(model, FP16, x)
    done = dv.slanc(model, [x])
    v = model.v.weight.unflatten(0, (2, 2))[[0, 0, 1, 1]].flatten(0, 1)
    whole = (model.o.weight @ v + torch.eye(8)) * model.before.weight
    size = float(whole.square().sum().sqrt().detach())
    assert _factor(model, "rms_norm") == pytest.approx(1 / size)
    assert done["after"].what == f"input times {1 / size:.4g}"
    assert done["before"].what == "left, as no one linear layer ends a block before it"


def test_feed_forward_by_hand():
    model, x = _made(lambda: FeedForward(gated=False))
    dv.apply_(model, FP16, x)
    done = dv.slanc(model, [x])
    with torch.no_grad():
        top = [torch.linalg.svdvals(w.weight)[0] for w in (model.up, model.down)]
        size = float(model.before.weight.mean() * top[0] * top[1])
    assert _factor(model) == pytest.approx(1 / size)
    assert done["after"].after == pytest.approx(done["after"].before / size**2)


def test_gated_feed_forward_by_hand():
    model, x = _made(lambda: FeedForward(gated=True))
    dv.apply_(model, FP16, x)
    dv.slanc(model, [x])
    with torch.no_grad():
        g = model.before.weight
        inner = (model.down.weight @ (model.up.weight * g)).square().sum().sqrt()
        size = float(inner * torch.linalg.svdvals(model.gate.weight * g)[0])
    assert _factor(model) == pytest.approx(1 / size)


@pytest.mark.parametrize("make", [Attention, lambda: FeedForward(gated=True)])
@pytest.mark.parametrize("fields", [{"fn": "norm()"}, {"output": "SAME"}])
def test_under_exact_arithmetic_the_function_stays(make, fields):
    model, x = _made(make)
    wanted = model(x).detach()
    dv.apply_(model, dv.Recipe(dv.rule(op="norm", **fields)), x)
    before = everything(model)
    done = dv.slanc(model, [x])
    assert float((model(x).detach() - wanted).abs().max()) < 1e-12 * float(wanted.abs().max())
    done.undo()
    assert same(everything(model), before)


def test_sums_that_overflowed_do_no_more():
    model, x = _made(lambda: FeedForward(gated=False))
    with torch.no_grad():
        model.down.weight.mul_(2000)
    exact = copy.deepcopy(model)
    dv.apply_(model, FP16, x)
    wanted = exact(x).detach()
    assert not torch.allclose(model(x).detach(), wanted, atol=0.1)
    done = dv.slanc(model, [x])
    assert done["after"].before > 65504 > done["after"].after
    assert torch.allclose(model(x).detach(), wanted, atol=0.01)
    fresh = copy.deepcopy(exact)
    dv.load_state(fresh, dv.state(model), x)
    assert torch.equal(fresh(x), model(x))


class OwnRMSNorm(nn.Module):
    """One written out in tensor arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-6

    def forward(self, x):
        return self.weight * x * (x.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()


def test_a_norm_written_out_needs_an_approximation():
    model, x = _made(lambda: FeedForward(gated=False))
    model.after = OwnRMSNorm().double()
    wanted = model(x).detach()
    dv.apply_(model, dv.Recipe(dv.rule(op="norm", output="SAME")), x)
    with pytest.raises(dv.DovetailError, match="after is written out in tensor arithmetic"):
        dv.slanc(model, [x])
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule(op="norm", fn="norm()")), x)
    dv.slanc(model, [x], select="after")
    assert float((model(x).detach() - wanted).abs().max()) < 1e-12


def test_refusals():
    model, x = _made(lambda: Attention(packed=True))
    with pytest.raises(dv.DovetailError, match="slanc: this model is not emulated"):
        dv.slanc(model, [x])
    dv.apply_(model, FP16, x)
    before = everything(model)
    with pytest.raises(dv.DovetailError, match="after cannot be scaled, as both gives more than"):
        dv.slanc(model, [x], select="after")
    with pytest.raises(dv.DovetailError, match="before cannot be scaled, as no one linear layer"):
        dv.slanc(model, [x])
    assert same(everything(model), before)
