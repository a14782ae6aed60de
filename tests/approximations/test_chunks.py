"""Large tensors go piece by piece, narrow dtypes through a table of all values: the same bits."""

from __future__ import annotations

import pytest
import torch

from dovetail.approximations import Pieces, approximation
from dovetail.approximations.chunks import NARROW, every_value
from dovetail.approximations.steps import Steps
from helpers import randn

UNARY = [
    ("gelu", "pwl(16)"),
    ("gelu", "pwl(7, bf16)"),
    ("tanh", "poly3(fp16)"),
    ("exp", "poly2(fp16)"),
    ("rsqrt", "newton"),
    ("sin", "table(64)"),
]


def alike(a, b):
    assert a.dtype == b.dtype
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("kind", "spelling"), UNARY)
def test_every_value_of_a_narrow_dtype(kind, spelling):
    made = approximation(spelling)
    for dtype in NARROW:
        x = every_value(dtype, torch.device("cpu"))
        one_by_one = [made.compute(kind, {"input": part}, {}) for part in x.split(1000)]
        alike(made.compute(kind, {"input": x}, {}), torch.cat(one_by_one))
        turned = x.reshape(256, 256).T
        alike(made.compute(kind, {"input": turned}, {}).T.flatten(), torch.cat(one_by_one))


@pytest.mark.parametrize(("kind", "spelling"), UNARY)
def test_large_tensors(kind, spelling):
    made, x = approximation(spelling), 3 * randn(30, 1111)
    whole = made.compute(kind, {"input": x}, {})
    alike(whole, torch.stack([made.compute(kind, {"input": row}, {}) for row in x]))
    alike(made.compute(kind, {"input": x.clone().requires_grad_()}, {}).detach(), whole)


@pytest.mark.parametrize(
    ("kind", "spelling"),
    [("softmax", "poly2(fp16)"), ("layer_norm", "newton"), ("rms_norm", "isqrt")],
)
def test_many_rows(kind, spelling):
    x, weight = randn(300, 97), randn(97, seed=1)
    operands = {} if kind == "softmax" else {"weight": weight}
    attributes = {"dim": -1, "normalized_shape": (97,), "eps": 1e-5}
    whole = approximation(spelling).compute(kind, {"input": x, **operands}, attributes)
    for part, y in zip(x.split(7), whole.split(7), strict=True):
        alike(approximation(spelling).compute(kind, {"input": part, **operands}, attributes), y)


@pytest.mark.parametrize("count", [2, 3, 7, 16, 100])
def test_a_guessed_piece_is_the_one_that_a_search_finds(count):
    low, high = -1.7, 3.1
    starts = tuple(low + (high - low) * i / count for i in range(count))
    pieces = Pieces(starts, tuple((float(i),) for i in range(count)))
    assert pieces.is_uniform
    edges = torch.tensor(starts, dtype=torch.float64)
    around = [torch.nextafter(edges, torch.full_like(edges, end)) for end in (-9.0, 9.0)]
    t = torch.cat([edges, *around, torch.tensor([-9.0, 9.0, 1e300, -torch.inf, torch.inf])])
    wanted = torch.searchsorted(edges[1:], t, right=True).double()
    assert torch.equal(pieces.at(t, Steps()), wanted)
    assert not Pieces((0.0, 0.1, 3.0), ((0.0,),) * 3).is_uniform
