"""The integer codes that an operand of a planned product is multiplied as."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from dovetail.emulation.site import Site
from dovetail.formats import IntFormat
from dovetail.formats.philox import seed_from
from dovetail.formats.quantization import quantize
from dovetail.formats.realise.stochastic import is_stochastic, words_of
from dovetail.kernels.ranges import operand_range

__all__ = ["OperandCodes", "operand_codes"]


class OperandCodes(NamedTuple):
    """``codes``, their ``scale``, and the codes of a real zero: one, or one for each output."""

    codes: Tensor
    scale: Tensor
    zeros: Tensor

    @property
    def zero(self) -> int:
        """The code of a real zero; 0 where each channel has its own."""
        return 0 if self.zeros.dim() else int(self.zeros)


def operand_codes(site: Site, module: nn.Module, x: Tensor, slot: str) -> OperandCodes:
    """An operand, prepared already, as codes; ``slot`` is ``input``, ``weight``, or ``second`` for
    a weight that is an activation."""
    fmt = getattr(site.arithmetic, "input" if slot == "input" else "weight")
    assert isinstance(fmt, IntFormat)
    scale, zero = site.range(module, "weight" if slot == "second" else slot)
    given = None if scale is None or zero is None else (scale, zero)
    scale, zero = operand_range(x, fmt, slot, given)
    words = words_of(x, fmt, seed_from(None, x.device) if is_stochastic(fmt) else None)
    codes = quantize(x, fmt, scale, zero, 0 if scale.dim() else None, words)
    return OperandCodes(codes, scale, zero)
