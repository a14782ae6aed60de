"""Tuned approximations: what may be searched, and that the layer's error never grows."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.recovery.tunable import tunable
from helpers import build, randn
from recovery.models import everything, same


def _made(**functions):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)
            self.act, self.norm = nn.GELU(), nn.LayerNorm(6)

        def forward(self, x):
            return torch.softmax(self.norm(self.act(self.fc(x))), -1)

    model, batches = build(0, Net), [randn(8, 6, seed=s) for s in range(2)]
    given = {"gelu": "pwl(8, domain=(-8, 8))", "softmax": "softmax(exp=pwl(4), clamp=-2)"}
    rules = [dv.rule("*", op=op, fn=fn) for op, fn in (given | functions).items()]
    dv.apply_(model, dv.Recipe(*rules), batches[0])
    return model, batches


def test_what_may_be_searched():
    pwl = dv.approximation("pwl(8, domain=(-8, 8))")
    ends = {("domain", "low"): (-1.25, -0.05), ("domain", "high"): (0.1, 2.5)}
    assert tunable(pwl, "gelu", (-1.0, 2.0), 1.0) == ends
    assert tunable(pwl, "gelu", (-1.0, 2.0), 1.5) == {("segments",): (8, 12), **ends}
    assert tunable(pwl, "gelu", (0.5, 2.0), 1.0) == {("domain", "high"): (0.1, 2.5)}
    softmax = dv.approximation("softmax(exp=poly2, reciprocal=newton(1), clamp=-8)")
    found = tunable(softmax, "softmax", (-3.0, 3.0), 3.0)
    assert found == {
        ("exp", "degree"): (2, 6),
        ("reciprocal", "steps"): (1, 3),
        ("clamp",): (-32.0, -1.0),
    }
    assert tunable(dv.approximation("newton(4)"), "layer_norm", (-3.0, 3.0), 9.0) == {
        ("steps",): (4, 5)
    }
    assert tunable(dv.approximation("base2"), "softmax", (-3.0, 3.0), 9.0) == {}


def test_the_error_falls_is_what_it_says_and_is_undone():
    pytest.importorskip("optuna")
    model, batches = _made()
    untouched = everything(model)
    wrong = _error(model, batches)
    done = dv.tune_functions(model, batches, trials=20)
    assert done["act"].before == pytest.approx(wrong["act"])
    assert done["act"].after < 0.5 * done["act"].before
    assert done["act"].after == pytest.approx(_error(model, batches)["act"])
    assert done[".:softmax"].after < done[".:softmax"].before
    assert done["act"].what.startswith("pwl(8, domain=(-8, 8)) became pwl(8, domain=(-")
    fresh, _ = _made()
    dv.remove_(fresh)
    dv.load_state(fresh, dv.state(model), batches[0])
    assert torch.equal(fresh(batches[0]), model(batches[0]))
    done.undo()
    assert same(everything(model), untouched)
    assert _error(model, batches)["act"] == wrong["act"]


def _error(model, batches):
    with dv.approximation_errors(model) as errors, torch.no_grad():
        seen = []
        hook = model.act.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for batch in batches:
            model(batch)
        hook.remove()
    power = sum(float(nn.functional.gelu(x).double().square().sum()) for x in seen)
    return {"act": sum(float(e.double().square().sum()) for e in errors["act"]) / power}


def test_repeating_gives_the_same_bits_and_the_seed_counts():
    pytest.importorskip("optuna")
    found = []
    for seed in (3, 3, 4):
        model, batches = _made()
        dv.tune_functions(model, batches, trials=5, seed=seed, budget=1.5)
        found.append(everything(model))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_what_has_no_numbers_is_left():
    pytest.importorskip("optuna")
    model, batches = _made(gelu="poly2", softmax="base2")
    done = dv.tune_functions(model, batches, select="*:softmax", trials=2)
    assert done[".:softmax"].what == "left as it is: base2"


def test_refusals(monkeypatch):
    model, batches = _made()
    for options, message in [
        ({"trials": 0}, "trials=0 is a number of trials"),
        ({"seed": -1}, "seed=-1 is a whole number"),
        ({"budget": 0.5}, "budget=0.5 is a factor of 1 or more"),
    ]:
        with pytest.raises(dv.DovetailError, match=message):
            dv.tune_functions(model, batches, **options)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(dv.DovetailError, match=r'this needs \'optuna\': pip install "dovetail\[se'):
        dv.tune_functions(model, batches)
