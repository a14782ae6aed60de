"""Multipliers of every kind for the ops, and which realisation computes which."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

import dovetail as dv
from helpers import CIRCUITS, REALISATIONS, holds, random_table

# What each is there for: f(0, 0) != 0 and no symmetry at all; nearly every product zero; entries
# over the whole of int32; one operand unused; a constant.
FULL = np.random.default_rng(5).integers(-(2**31), 2**31, (256, 256), dtype=np.int64)

TABLES = {
    "random": random_table(0),
    "random-small": random_table(1, -100, 100),
    "random-int16": random_table(9, -(2**15), 2**15),
    "sparse": random_table(2, sparse=True),
    "full-int32": dv.multiplier(FULL.astype(np.int32)),
    "first-only": dv.multiplier(np.repeat(np.arange(256)[:, None], 256, 1)),
    "second-only": dv.multiplier(np.repeat(np.arange(256)[None] - 7, 256, 0)),
    "constant": dv.multiplier(np.full((256, 256), 3)),
    "zero": dv.multiplier(np.zeros((256, 256), dtype=np.int32)),
    "unsigned": dv.multiplier(FULL.astype(np.int32) >> 12, signed=False),
}

FAMILIES = [
    "exact(bits=8)",
    "exact(bits=8, signed=False)",
    "truncate(bits=8, drop_first=2, drop_second=1)",
    "drum(k=4, bits=8)",
    "drum(k=6, bits=8, signed=False)",
    "mitchell(bits=8)",
    "broken_array(bits=8, drop_columns=5)",
]

EVERY = {**TABLES, **{name: name for name in CIRCUITS + FAMILIES}}

WIDE = [
    *[m.spelling for m in dv.catalog() if m.bits != (8, 8)][::4],
    "drum(k=5, bits=12)",
    "mitchell(bits=12)",
    "drum(k=6, bits=16)",
]

SOME = ["random", "random-small", "sparse", "full-int32", "unsigned", "exact(bits=8)"]
SOME += [
    name for name in ("mul8s_1KXF@v2022", "mul8s_1L2H@v1.1", "mul8u_2HH@v1.1") if name in EVERY
]


@cache
def held(key: str) -> list[str]:
    """The realisations of which each says that it computes the multiplier of this name."""
    mul = dv.multiplier(EVERY.get(key, key))
    return [real for real in REALISATIONS if holds(real, mul)]


def same(got: torch.Tensor, wanted: torch.Tensor) -> bool:
    return got.shape == wanted.shape and torch.equal(got.to(torch.int64), wanted)
