"""Block formats seen as integers: ``value = code * 2**exponent``, one exponent per block.

Elements of block floating point and MXINT are such integers, and so are those of narrow floats: a
multiple of their smallest step. A dot of two blocks is then a sum of products of integers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.formats import FixedFormat, FloatFormat, Format
from dovetail.formats.block import PowerScaled
from dovetail.formats.realise import round_values, shared_exponents
from dovetail.kernels.geometry import LINEAR, Geometry

__all__ = ["NAN_EXPONENT", "Codes", "bound", "code_range", "encode", "integers", "qualifies"]

NAN_EXPONENT = -(2**31)  #: the exponent of a block that has no value
_WIDEST = 32767


class Codes(NamedTuple):
    """``codes`` float32 ``[..., blocks, block]``, the tail filled with zeros, and ``exponents``
    int32 ``[..., blocks]``, of one unit of a code."""

    codes: Tensor
    exponents: Tensor

    def scales(self) -> Tensor:
        """The exponents as float64 powers of two; NaN for a block that is NaN."""
        missing = self.exponents == NAN_EXPONENT
        return _power(self.exponents.masked_fill(missing, 0)).masked_fill(missing, torch.nan)


def _power(exponents: Tensor) -> Tensor:
    """Powers of two in float64, from their bits: ``torch.ldexp`` goes through float32."""
    return ((exponents.to(torch.int64) + 1023) << 52).view(torch.float64)


def integers(fmt: Format | None) -> bool:
    """Whether elements of ``fmt`` are integers of at most 16 bits times a power of two.

    >>> from dovetail.formats import format
    >>> [integers(format(name)) for name in ("mxint8", "mxfp4", "mxfp8_e4m3", "nvfp4", "int8")]
    [True, True, False, False, False]
    """
    if not isinstance(fmt, PowerScaled) or fmt.rounding.is_stochastic:
        return False
    element = fmt.element
    if not isinstance(element, (FixedFormat, FloatFormat)) or not element.signed:
        return False
    fits = -22 <= element.quantum <= 0 <= element.emax and fmt.block <= 2**22
    return fits and max(map(abs, code_range(fmt))) <= _WIDEST


def code_range(fmt: PowerScaled) -> tuple[int, int]:
    """Lowest and highest code.

    >>> from dovetail.formats import format
    >>> code_range(format("mxfp4")), code_range(format("bfp(m=8, block=64)"))
    ((-12, 12), (-127, 127))
    """
    element = fmt.element
    assert isinstance(element, (FixedFormat, FloatFormat))
    unit = 2.0**element.quantum
    return int(element.min / unit), int(element.max / unit)


def bound(first: PowerScaled, second: PowerScaled) -> int:
    """No dot of two blocks is larger in magnitude.

    >>> from dovetail.formats import format
    >>> bound(format("mxint8"), format("mxint8")) == 32 * 127**2
    True
    """
    peak = max(map(abs, code_range(first))) * max(map(abs, code_range(second)))
    return first.block * peak


def qualifies(
    first: Format | None, second: Format | None, geometry: Geometry = LINEAR, kind: str = "linear"
) -> bool:
    """Whether a product of these formats is computed block by block, in integers.

    Both are power-of-two block formats with integer elements (see :func:`integers`), of one block
    size, whose blocks run along what the product sums over: the last axis of a linear layer's
    operands, the channels of a convolution's, ``K`` of both of a matmul's.

    >>> from dovetail.formats import format
    >>> qualifies(format("mxint8"), format("mxfp4")), qualifies(format("mxint8"), format("int8"))
    (True, False)
    """
    if not integers(first) or not integers(second):
        return False
    assert isinstance(first, PowerScaled)
    assert isinstance(second, PowerScaled)
    if first.block != second.block:
        return False
    if geometry.spatial:
        axes = ({1, -geometry.spatial - 1}, {1, -geometry.spatial - 1})
    elif kind == "matmul":
        axes = ({-1}, {-2})
    else:
        axes = ({-1}, {-1, 1})
    return all(
        fmt.axis is None or fmt.axis in allowed
        for fmt, allowed in zip((first, second), axes, strict=True)
    )


def encode(x: Tensor, fmt: PowerScaled) -> Codes:
    """``x [..., K]`` (float32 or float64) in blocks along its last axis.

    Codes are what rounding to the element format gives, also where the value that a code stands
    for overflows ``x``'s dtype.

    >>> from dovetail.formats import format
    >>> encode(torch.tensor([1.0, 0.5, -6.0]), format("mxfp4(block=2)"))
    Codes(codes=tensor([[  8.,   4.],
            [-12.,   0.]]), exponents=tensor([-3, -1], dtype=torch.int32))
    """
    exponents, finite = shared_exponents(x, fmt, -1)
    element = fmt.element
    assert isinstance(element, (FixedFormat, FloatFormat))
    units = exponents.to(torch.int32) + element.quantum
    block = min(fmt.block, x.shape[-1])
    values = round_values(x, fmt, -1).double()
    values = F.pad(values, (0, -x.shape[-1] % block)).unflatten(-1, (-1, block))
    codes = (values * _power(-units).unsqueeze(-1)).round()
    return Codes(
        torch.where(finite.unsqueeze(-1), codes, 0.0).float(),
        units.masked_fill(~finite, NAN_EXPONENT),
    )
