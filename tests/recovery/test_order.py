"""Recipes that would spoil each other are refused in that order, and only while it matters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import build, randn
from recovery.models import everything, same

RULE = dv.rule("*", input="int8", weight="int8", mul="broken_array(bits=8, drop_columns=7)")
REWRITING = ("smoothquant", "awq", "rotate", "gptq", "adaround")


def _net():
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4))


def _made():
    model, batches = build(0, _net), [randn(16, 6, seed=s) for s in range(2)]
    dv.apply_(model, dv.Recipe(RULE), batches[0])
    return model, batches


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(("remap_weights", name) for name in (*REWRITING, "equalise")),
        ("remap_weights", "correct_bias"),
        ("remap_weights", "control_variate"),
        ("remap_weights", "remap_weights"),
        *(("control_variate", name) for name in (*REWRITING, "control_variate", "remap_weights")),
        ("correct_bias", "control_variate"),
        ("correct_bias", "remap_weights"),
    ],
)
def test_the_wrong_order_is_refused_and_changes_nothing(first, second):
    model, batches = _made()
    done = getattr(dv, first)(model, batches)
    before = everything(model)
    with pytest.raises(dv.DovetailError, match=f"{second} cannot follow {first}"):
        getattr(dv, second)(model, batches)
    assert same(before, everything(model))
    done.undo()
    getattr(dv, second)(model, batches)


@pytest.mark.parametrize(
    "names",
    [
        ("smoothquant", "gptq", "control_variate", "correct_bias"),
        ("awq", "adaround", "remap_weights"),
        ("correct_bias", "correct_bias"),
    ],
)
def test_the_right_order_stands(names):
    model, batches = _made()
    for name in names:
        getattr(dv, name)(model, batches)


def test_it_is_known_of_copies_and_of_loaded_states_but_not_of_trained_weights():
    model, batches = _made()
    dv.remap_weights(model, batches)
    other = build(0, _net)
    other.load_state_dict(model.state_dict())
    dv.load_state(other, dv.state(model))
    for known in (copy.deepcopy(model), other):
        with pytest.raises(dv.DovetailError, match="cannot follow remap_weights"):
            dv.correct_bias(known, batches)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    dv.correct_bias(other, batches)
