"""However the work is cut, the bits are the same: batches, threads, their order, realisations."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.kernels import native, using
from helpers import REALISATIONS, build, randn, random_table

BATCH = 3


class Product(nn.Module):
    def forward(self, a, b):
        return a @ b


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(6, 4, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0]


OPS = {
    "linear": (lambda: nn.Linear(37, 9), ((BATCH, 37),)),
    "rows": (lambda: nn.Linear(11, 70), ((BATCH, 2, 11),)),
    "matmul": (Product, ((BATCH, 4, 19), (BATCH, 19, 3))),
    "conv1d": (lambda: nn.Conv1d(5, 7, 3, padding=1, dilation=2), ((BATCH, 5, 12),)),
    "conv2d": (lambda: nn.Conv2d(6, 4, 3, 2, 1, groups=2), ((BATCH, 6, 7, 5),)),
    "pointwise": (lambda: nn.Conv2d(9, 35, 1), ((BATCH, 9, 3, 2),)),
    "depthwise": (lambda: nn.Conv2d(5, 5, 3, padding=1, groups=5), ((BATCH, 5, 6, 7),)),
    "conv3d": (lambda: nn.Conv3d(3, 4, 2, padding=1), ((BATCH, 3, 2, 3, 2),)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 3, 3, stride=2), ((BATCH, 4, 4, 3),)),
    "LSTM": (Recurrent, ((BATCH, 3, 6),)),
}
INT8 = {"input": "int8", "weight": "int8"}
BF16 = {"input": "bf16", "weight": "bf16"}
ARITHMETICS = {
    "exact": INT8,
    "zero point": {"input": "uint8", "weight": "int8"},
    "one factor": {**INT8, "mul": "drum(k=4, bits=8)"},
    "classes": {**INT8, "mul": "mul8s_1KVA"},
    "table": {**INT8, "mul": random_table(4, -3000, 3000)},
    "16 bits": {"input": "int16", "weight": "int16", "mul": "mitchell(bits=16)"},
    "wraps": {**INT8, "acc": "int12"},
    "saturates": {**INT8, "acc": "int16(saturate)"},
    "table saturates": {**INT8, "mul": random_table(5, -3000, 3000), "acc": "int14(saturate)"},
    "tree": {**INT8, "acc": "bf16(tree)"},
    "adder": {**INT8, "acc": "loa(bits=20, low=5)"},
    "values": {**BF16, "acc": "fp16(order=chunk(4))"},
    "float multiplier": {**BF16, "mul": dv.multiplier("mitchell", format="bf16")},
    "blocks": {"input": "mxint8", "weight": "mxint8"},
    "blocks in a register": {"input": "mxfp4", "weight": "mxfp4", "acc": "bf16"},
}
#: Every op with four or five arithmetics, every arithmetic with three ops.
PAIRS = [
    (op, arithmetic)
    for i, arithmetic in enumerate(ARITHMETICS)
    for j, op in enumerate(OPS)
    if (j - i) % len(OPS) in (0, 3, 7)
]


@cache
def emulated(op: str, arithmetic: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    make, shapes = OPS[op]
    rule = dict(ARITHMETICS[arithmetic])
    if op == "matmul" and rule["weight"] in ("int8", "int16"):
        rule["weight"] += "(per_tensor)"
    model = build(1, make).eval()
    x = tuple(randn(*shape, seed=i) for i, shape in enumerate(shapes))
    dv.apply_(model, dv.Recipe(dv.rule("*", **rule)), x)
    return model, x


@cache
def wanted(op: str, arithmetic: str) -> Tensor:
    """By the slowest and plainest of the realisations that the arithmetic has."""
    model, x = emulated(op, arithmetic)
    with torch.no_grad(), using("reference"):
        return model(*x)


@contextmanager
def cut(threads: int, pieces: int, seed: int) -> Iterator[list[int]]:
    """The core's tasks in about so many stretches, in any order, for so many threads.

    Yields a list that gets the number of tasks of each loop.
    """
    tasks: list[int] = []
    body = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    rng = random.Random(seed)

    @ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int64] * 3, body, ctypes.c_void_p)
    def loop(begin, end, _grain, work, context):
        tasks.append(end - begin)
        ends = sorted({begin, end, *(rng.randint(begin, end) for _ in range(pieces))})
        stretches = list(pairwise(ends))
        rng.shuffle(stretches)
        for first, last in stretches:
            work(first, last, context)
        return 0

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_uint32))
    def count(out):
        out[0] = threads
        return 0

    native._loaded().dv_set_threads(loop, count)
    try:
        yield tasks
    finally:
        native._core.cache_clear()
        native._loaded()  # libtorch's own again


@pytest.mark.skipif(not native.available(), reason="needs the native core")
@settings(max_examples=80)
@given(data=st.data())
def test_no_cut_changes_a_bit(data):
    op, arithmetic = data.draw(st.sampled_from(PAIRS))
    threads, pieces = data.draw(st.integers(2, 9)), data.draw(st.integers(0, 6))
    split = data.draw(st.integers(1, BATCH - 1))
    model, x = emulated(op, arithmetic)
    native.set_isa(data.draw(st.sampled_from(native.levels())))
    try:
        with torch.no_grad(), cut(threads, pieces, seed=split):
            whole = model(*x)
            parts = [model(*(a[:split] for a in x)), model(*(a[split:] for a in x))]
    finally:
        native.set_isa(None)
    assert torch.equal(whole, wanted(op, arithmetic))
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize(("op", "arithmetic"), PAIRS)
def test_no_realisation_changes_a_bit(op, arithmetic):
    model, x = emulated(op, arithmetic)
    for name in REALISATIONS:
        if name == "reference":
            continue
        try:
            with torch.no_grad(), using(name):
                y = model(*x)
        except DovetailError:
            continue  # it does not hold for this multiplier
        assert torch.equal(y, wanted(op, arithmetic)), name
    with torch.no_grad():
        assert torch.equal(model(*x), wanted(op, arithmetic))


@pytest.mark.skipif(not native.available(), reason="needs the native core")
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_a_batch_of_one_is_shared_by_all_threads(arithmetic):
    layers = (
        (nn.Linear(64, 1024), randn(1, 64)),
        (nn.Conv2d(8, 32, 3, padding=1), randn(1, 8, 16, 16)),
        (nn.Conv2d(32, 32, 3, padding=1, groups=32), randn(1, 32, 16, 16)),
    )
    for layer, x in layers:
        model = layer.eval()
        dv.apply_(model, dv.Recipe(dv.rule("*", **ARITHMETICS[arithmetic])), x)
        with torch.no_grad(), cut(4, 4, seed=0) as tasks:
            model(x)
        assert max(tasks) >= 4, (layer, tasks)
