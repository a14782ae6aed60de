"""The picture of a multiplier's errors, decoded again by an independent reader."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest

import dovetail as dv
from dovetail.analysis.heatmap import ABOVE, BELOW, heat_map

image = pytest.importorskip("PIL.Image")


def pixels(name_or_mul: object) -> np.ndarray:
    data = base64.b64decode(heat_map(dv.multiplier(name_or_mul)).data_uri().partition(",")[2])
    return np.asarray(image.open(io.BytesIO(data)).convert("RGBA"))


def test_errors_by_operand_value() -> None:
    shown = heat_map(dv.multiplier("mul8s_1KVM"))  # f(a, w) = (a & ~1) * w: error -w for odd a
    assert (shown.inputs, shown.weights, shown.sampled) == ((-128, 127), (-128, 127), False)
    assert shown.errors.shape == (256, 256)
    assert shown.errors[128 + 3, 128 + 5] == -5
    assert shown.errors[128 + 2, 128 + 5] == 0
    assert shown.errors[128 - 1, 128 - 128] == 128 == shown.limit


def test_pixels_are_blue_below_orange_above_and_clear_at_zero() -> None:
    seen = pixels("mul8s_1KVM")
    assert seen.shape == (256, 256, 4)
    row_of = {a: 127 - a for a in (3, 2)}  # inputs grow upward
    assert seen[row_of[2], :, 3].max() == 0
    assert tuple(seen[row_of[3], 128 + 127, :3]) == BELOW
    assert tuple(seen[row_of[3], 0, :3]) == ABOVE
    assert seen[row_of[3], 0, 3] == 255
    assert 0 < seen[row_of[3], 128 + 1, 3] < 60  # the smallest error is faint, not gone


def test_narrow_unsigned_and_exact() -> None:
    exact = heat_map(dv.multiplier("exact(bits=4, signed=False)"))
    assert (exact.errors.shape, exact.limit, exact.inputs) == ((16, 16), 0, (0, 15))
    assert pixels("exact(bits=4, signed=False)")[..., 3].max() == 0


def test_wide_operands_are_sampled_one_in_each_cell() -> None:
    shown = heat_map(dv.multiplier("drum(k=4, bits=12, signed=True)"))
    assert (shown.errors.shape, shown.inputs, shown.sampled) == ((256, 256), (-2048, 2047), True)
    assert shown.limit > 0
    again = heat_map(dv.multiplier("drum(k=4, bits=12, signed=True)"))
    assert np.array_equal(shown.errors, again.errors)
