"""Layers emulated by one rule, and how near they must be to what torch computes."""

from __future__ import annotations

import copy

from torch import nn

import dovetail as dv
from helpers import INT8, random_table

TABLE = random_table(21, -3000, 3000)


def applied(layer, example, **fields):
    """A copy of ``layer``, emulated; ``layer`` itself stays as torch has it."""
    model = nn.Sequential(copy.deepcopy(layer))
    dv.apply_(model, dv.Recipe(dv.rule("*", **(INT8 | fields))), example)
    return model


def close(got, wanted, steps=2.0):
    """Within a few quantisation steps of the float layer."""
    got, wanted = got.detach(), wanted.detach()
    return float((got - wanted).abs().max()) < steps * float(wanted.abs().max()) / 64
