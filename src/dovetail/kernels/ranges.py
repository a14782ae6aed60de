"""The scale and zero point that an operand is quantised with."""

from __future__ import annotations

from torch import Tensor

from dovetail._eager import is_eager
from dovetail.formats import IntFormat
from dovetail.formats.grid import own_range
from dovetail.formats.quantization import scale_zero_point
from dovetail.kernels.native_integers import range_of
from dovetail.kernels.weight_cache import cached

__all__ = ["Range", "operand_range", "weight_range"]

Range = tuple[Tensor, Tensor]  # scale (float32) and zero point (int32)


def operand_range(x: Tensor, fmt: IntFormat, slot: str, given: Range | None) -> Range:
    """The given range, or the one that ``x`` itself asks for: per channel if ``slot`` is weight.

    >>> import torch
    >>> operand_range(torch.tensor([1.27, -0.5]), IntFormat(8), "input", None)[0]
    tensor(0.0100)
    """
    if given is not None:
        return given
    axis, values = fmt.axis_for(slot), x.detach()
    found = own_range(values, fmt, axis) if fmt.leaves_out else range_of(values, axis)
    return scale_zero_point(fmt, *found)


def weight_range(weight: Tensor, fmt: IntFormat) -> Range:
    """The range that a weight asks for, found once for the forward and the backward pass.

    >>> import torch
    >>> weight_range(torch.tensor([[1.27, -0.5], [0.0, 2.54]]), IntFormat(8))[0]
    tensor([0.0100, 0.0200])
    """
    if not is_eager():
        return operand_range(weight, fmt, "weight", None)
    return cached(weight, fmt, lambda: operand_range(weight, fmt, "weight", None))
