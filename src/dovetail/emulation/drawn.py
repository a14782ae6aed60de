"""Operands of products of codes that are rounded stochastically: drawn before the op.

An op takes no seed, its backward pass must see the same draw, and a graph must draw anew at every
run. So such an operand is rounded by the cast, whose gradient is straight through, and the op gets
it with its range and in the format that rounds to nearest. Of multiples of the scale that makes the
codes that were drawn: they have at most 16 bits, and the multiples are float32 (or float64) ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.site import Site
from dovetail.formats import IntFormat
from dovetail.formats.cast import fake_quantize
from dovetail.formats.philox import seed_from
from dovetail.formats.realise import is_stochastic
from dovetail.kernels.ranges import Range, operand_range

__all__ = ["with_drawn_operands"]


class _DrawnSite(Site):
    """A site as it is for a call whose operands are drawn; all else is the site's own."""

    def __init__(self, site: Site, ranges: dict[str, Range]) -> None:
        assert site.drawn is not None
        self.site, self.ranges_drawn = site, ranges
        self.arithmetic, self.spelling = site.drawn

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["site"], name)

    def range(self, module: nn.Module, slot: str) -> tuple[Tensor | None, Tensor | None]:
        found = self.ranges_drawn.get(slot)
        return self.site.range(module, slot) if found is None else found


def with_drawn_operands(site: Site, module: nn.Module, call: Call) -> tuple[Site, Call]:
    """The call with what is rounded stochastically rounded, and the site that says so."""
    plain = call.plain
    operands, ranges = {"input": plain.x, "weight": plain.weight}, {}
    for slot in operands:
        fmt = getattr(site.arithmetic, slot)
        if is_stochastic(fmt):
            role = "second" if (call.kind, slot) == ("matmul", "weight") else slot
            operands[slot], ranges[slot] = _draw(operands[slot], fmt, slot, role, site, module)
    drawn = plain.with_operands(operands["input"], operands["weight"], plain.bias)
    return _DrawnSite(site, ranges), drawn


def _draw(
    x: Tensor, fmt: IntFormat, slot: str, role: str, site: Site, module: nn.Module
) -> tuple[Tensor, Range]:
    """``x`` in multiples of its scale, and its range."""
    scale, zero = site.range(module, slot)
    given = None if scale is None or zero is None else (scale, zero)
    found = operand_range(x, fmt, role, given)
    # The extremes of the operand itself clip nothing.
    clip = (given is not None or fmt.leaves_out) and site.arithmetic.grad.clips
    wide = x if x.dtype == torch.float64 else x.float()
    seed, axis = seed_from(None, x.device), 0 if found[0].dim() else None
    return fake_quantize(wide, fmt, *found, axis, seed, clip=clip), found
