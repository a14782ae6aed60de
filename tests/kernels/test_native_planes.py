"""Layers of one channel per group, several images to a plane, and the codes they start from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dovetail.kernels import native
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_products import NativeMac
from dovetail.kernels.reference import sums
from dovetail.multipliers import multiplier

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

TABLE = np.random.default_rng(5).integers(-30000, 30000, (256, 256))


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def random_codes(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 128, shape, generator=generator).to(torch.int8)


# Planes that hold all images, some of them with a last one that is not full, and one each.
@pytest.mark.parametrize(
    ("batch", "side", "options"),
    [
        (3, 6, {"padding": 1}),
        (5, 25, {"padding": 1}),
        (7, 24, {"padding": 2, "stride": 2, "dilation": 2}),
        (2, 47, {"stride": (1, 2)}),
    ],
)
@pytest.mark.parametrize("outputs", [1, 3])
def test_images_share_planes(level, threads, batch, side, options, outputs):
    del level, threads
    mac = NativeMac.table(TABLE, signed=True)
    geometry = Geometry.conv(2, groups=2, **options)
    a, w = random_codes(batch, 2, side, side), random_codes(2 * outputs, 1, 3, 3, seed=1)
    got = mac.codes(a, mac.pack(w, geometry), pad_code=7)
    assert torch.equal(got, _by_shifts(a, w, geometry))


def _by_shifts(a: torch.Tensor, w: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Tap by tap over whole images, padded with code 7."""
    low = geometry.padding[0][0]
    padded = torch.nn.functional.pad(a, (low,) * 4, value=7).long() & 0xFF
    per_group = w.shape[0] // geometry.groups
    padded = padded.repeat_interleave(per_group, dim=1)
    height, width = geometry.out_shape(a.shape, w.shape)[2:]
    table = torch.from_numpy(TABLE)
    total = torch.zeros(a.shape[0], w.shape[0], height, width, dtype=torch.int64)
    (sy, sx), (dy, dx) = geometry.stride, geometry.dilation
    for y in range(3):
        for x in range(3):
            rows = slice(y * dy, y * dy + (height - 1) * sy + 1, sy)
            columns = slice(x * dx, x * dx + (width - 1) * sx + 1, sx)
            codes = w[:, 0, y, x].long() & 0xFF
            total += table[padded[:, :, rows, columns], codes[None, :, None, None]]
    return total.int()


def test_the_shifts_are_the_reference():
    geometry = Geometry.conv(2, groups=2, padding=1)
    a, w = random_codes(1, 2, 4, 5), random_codes(2, 1, 3, 3, seed=1)
    expected = sums(a, w, multiplier(TABLE, signed=True), geometry, 7)
    assert torch.equal(_by_shifts(a, w, geometry).long(), expected.long())


@pytest.mark.parametrize("scale", [0.1, 1 / 3, 2.0**-20, 3e-39, 1e-44, 1.5e38, 7e36])
@pytest.mark.parametrize(("zero", "low", "high"), [(0, -127, 127), (-3, -128, 127), (9, 0, 255)])
def test_values_next_to_ties_are_divided(level, scale, zero, low, high):
    """Everything within a few units in the last place of n + 1/2 times the scale."""
    del level
    step = np.float32(scale)
    with np.errstate(over="ignore", invalid="ignore"):
        ties = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * step
        near = [ties]
        for direction in (-np.inf, np.inf):
            for _ in range(3):
                near.append(np.nextafter(near[-1], np.float32(direction)))
        special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, 1e-45], np.float32)
        far = np.random.default_rng(0).normal(0, 90, 5000).astype(np.float32) * step
        x = np.concatenate([*near, special, far])
        wanted = np.rint(np.where(np.isnan(x / step), np.float32(0), x / step)) + zero
    codes = np.clip(wanted, low, high).astype(np.int64)
    dtype = torch.int8 if low < 0 else torch.uint8
    got = native.quantize(torch.from_numpy(x), float(step), zero, low, high, out_dtype=dtype)
    assert got.tolist() == codes.tolist()
