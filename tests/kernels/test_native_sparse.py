"""Weights with whole blocks of zeros: passed over, and not a bit of any sum changes."""

from __future__ import annotations

import pytest
import torch

import dovetail as dv
from dovetail.kernels import native
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.realisation import Operands, using

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

SYMMETRIC = Operands((-127, 127), (-127, 127))


def nonzero_at_zero(a: int, w: int) -> int:
    """An exact product with an offset: f(a, 0) = 3, so nothing may be left out."""
    return a * w + 3


def zeroed(
    shape: tuple[int, ...], rows: int, columns: int, share: float, seed: int
) -> torch.Tensor:
    """Random codes whose blocks, of the matrix of outputs and all else, are zeros by chance."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-127, 128, shape, generator=generator).flatten(1)
    tiles = torch.rand(
        -(-codes.shape[0] // rows), -(-codes.shape[1] // columns), generator=generator
    )
    kept = (tiles < share).repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    codes = torch.where(kept[: codes.shape[0], : codes.shape[1]], codes, 0)
    return codes.to(torch.int8).reshape(shape)


def same_on_every_level(
    mul: dv.Multiplier, a: torch.Tensor, w: torch.Tensor, geometry: Geometry, pad_code: int = 0
) -> None:
    with using("torch-products"):
        slow = plan_mac(mul, SYMMETRIC)
        expected = slow.sums(a, slow.pack(w, geometry), geometry, pad_code)
    for level in native.levels():
        native.set_isa(level)
        kernel = plan_mac(mul, SYMMETRIC)
        found = kernel.sums(a, kernel.pack(w, geometry), geometry, pad_code)
        assert torch.equal(found.long(), expected.long()), (level, kernel.name)


@pytest.fixture(autouse=True)
def _levels():
    yield
    native.set_isa(None)


MULTIPLIERS = ["exact", "mul8s_1L2H@v1.1", "drum(k=4, bits=8, signed=True)", nonzero_at_zero]


@pytest.mark.parametrize("mul", MULTIPLIERS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
@pytest.mark.parametrize(("rows", "columns"), [(16, 64), (48, 100), (1, 4), (130, 33)])
def test_linear_sums(mul, share, rows, columns) -> None:
    w = zeroed((130, 200), rows, columns, share, seed=rows)
    for batch in (1, 33):
        a = zeroed((batch, 200), 1, 1, 1.0, seed=batch)
        same_on_every_level(dv.multiplier(mul), a, w, LINEAR)


@pytest.mark.parametrize("mul", MULTIPLIERS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("rows", "columns"), [(16, 9 * 64), (40, 9), (3, 200)])
def test_convolution_sums(mul, groups, rows, columns) -> None:
    geometry = Geometry.conv(2, stride=2, padding=1, groups=groups)
    w = zeroed((40 * groups, 70, 3, 3), rows, columns, 0.4, seed=rows)
    a = zeroed((2, 70 * groups, 5, 6), 1, 1, 1.0, seed=0)
    same_on_every_level(dv.multiplier(mul), a, w, geometry, pad_code=5)
