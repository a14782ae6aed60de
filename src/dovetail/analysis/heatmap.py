"""A picture of a multiplier's error over its operands, as a PNG that needs no other package."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dovetail._png import png
from dovetail.multipliers import Multiplier

__all__ = ["HeatMap", "heat_map"]

CELLS = 256  # most cells along a side
BELOW, ABOVE = (46, 111, 214), (217, 95, 14)  # blue: product too small; orange: too large


@dataclass(frozen=True)
class HeatMap:
    """``errors[i, j]`` is ``f(a, w) - a * w`` for the i-th input and the j-th weight, ascending.

    Wider operands than 8 bits are sampled: ``sampled`` says that each cell shows one pair of the
    many that fall into it.
    """

    errors: npt.NDArray[np.int64]
    inputs: tuple[int, int]
    weights: tuple[int, int]
    sampled: bool

    @property
    def limit(self) -> int:
        """The largest absolute error shown: the end of the colour scale."""
        return int(np.abs(self.errors).max())

    def data_uri(self) -> str:
        """The picture as a ``data:`` address: weights to the right, inputs upward.

        Zero error is transparent, so that it suits a light and a dark page.
        """
        return "data:image/png;base64," + base64.b64encode(self.png()).decode()

    def png(self) -> bytes:
        """The picture as an indexed PNG with 127 steps of blue and of orange around transparent."""
        limit = max(self.limit, 1)
        steps = np.round(self.errors / limit * 127).astype(np.int64)
        # the smallest error must not vanish into zero
        steps = np.where(steps == 0, np.sign(self.errors), steps)
        palette = bytes(c for step in range(256) for c in (BELOW if step < 127 else ABOVE))
        alpha = bytes(_alpha(step - 127) for step in range(256))
        pixels = (steps[::-1] + 127).astype(np.uint8)
        return png(pixels, palette, alpha)


def heat_map(mul: Multiplier) -> HeatMap:
    """The errors of ``mul`` over all pairs of its operands, at most 256 cells a side.

    >>> from dovetail.multipliers import multiplier
    >>> heat_map(multiplier("mul8s_1KVM")).limit          # f(a, w) = (a & ~1) * w
    128
    """
    widths = mul.bits or (8, 8)
    first, second = (_operands(bits, mul.signed) for bits in widths)
    errors = mul(first[:, None], second[None, :]) - first[:, None] * second[None, :]
    (a_low, a_high), (w_low, w_high) = (_span(bits, mul.signed) for bits in widths)
    return HeatMap(errors, (a_low, a_high), (w_low, w_high), sampled=max(widths) > 8)


def _span(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _operands(bits: int, signed: bool) -> npt.NDArray[np.int64]:
    """Every operand value, or one at random in each of 256 equal parts: multiples of a power of
    two would hide what a circuit does to the low bits."""
    low, high = _span(bits, signed)
    if bits <= 8:
        return np.arange(low, high + 1, dtype=np.int64)
    part = (1 << bits) // CELLS
    return low + np.arange(CELLS) * part + np.random.default_rng(0).integers(0, part, CELLS)


def _alpha(step: int) -> int:
    """Opacity of a colour step: 0 for no error, then from faint but visible to full."""
    return 0 if step == 0 else min(255, 24 + round(231 * abs(step) / 127))
