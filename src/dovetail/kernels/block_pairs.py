"""Which products of block formats are computed exactly, block by block, and on what grounds.

A dot of two blocks is a sum of products of integers (:mod:`.block_codes`), times the significands
of both scales: below ``2**53`` float64 holds every partial sum, in any order. Where it may be
larger, the codes of the first operand are split in two parts whose dots stay below that, and whose
sum is rounded once: enough for ``mxfp8_e5m2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from dovetail._eager import constant
from dovetail.formats import NVFP4, FixedFormat, FloatFormat, Format, ScaledBlock
from dovetail.formats.block import PowerScaled
from dovetail.formats.scaled import E4M3
from dovetail.kernels.block_codes import Blocked
from dovetail.kernels.geometry import LINEAR, Geometry

__all__ = ["Pair", "code_range", "pair_of", "qualifies", "scale_format", "why_not"]

_EXACT = 53  #: bits of float64


@dataclass(frozen=True)
class Pair:
    """Two formats whose products are exact.

    ``dot`` is the length of a dot, ``bound`` what no dot exceeds, in units of its last bit: the
    product of both codes' units and of the last bits of both scales. ``split`` is how many low bits
    of the first operand's codes are multiplied apart.
    """

    first: Blocked
    second: Blocked
    dot: int
    bound: int
    split: int = 0

    @property
    def widest(self) -> int:
        """The largest code times the largest significand of its scale."""
        return max(_code_most(f) * _scale_most(f) for f in (self.first, self.second))

    @property
    def cast_already(self) -> bool:
        """Whether some operand comes as values instead of being rounded here."""
        return self.first.rounding.is_stochastic or self.second.rounding.is_stochastic


@constant
def qualifies(
    first: Format | None, second: Format | None, geometry: Geometry = LINEAR, kind: str = "linear"
) -> bool:
    """Whether a product of these formats is computed exactly, block by block.

    Both are block formats whose elements are integers or floats and whose scales are powers of two
    or floats; the blocks of one are a multiple of the other's, and run along what the product sums
    over: the last axis of a linear layer's operands, the channels of a convolution's, ``K`` of both
    of a matmul's. The products' sums fit (see the module).

    >>> from dovetail.formats import format
    >>> qualifies(format("mxint8"), format("mxfp4")), qualifies(format("mxint8"), format("int8"))
    (True, False)
    """
    return _qualifies(first, second, geometry, kind)


@lru_cache(maxsize=256)
def _qualifies(first: Format | None, second: Format | None, geometry: Geometry, kind: str) -> bool:
    return why_not(first, second, geometry, kind) is None


def why_not(
    first: Format | None, second: Format | None, geometry: Geometry = LINEAR, kind: str = "linear"
) -> str | None:
    """What keeps these formats from being multiplied block by block; ``None`` if nothing does.

    >>> from dovetail.formats import format
    >>> why_not(format("mxint8"), format("bfp(m=8, block=48)"))
    'blocks of 32 and of 48 do not nest'
    """
    for slot, fmt in (("input", first), ("weight", second)):
        reason = _alone(fmt)
        if reason is not None:
            return f"{slot}={fmt} {reason}"
    assert isinstance(first, Blocked)
    assert isinstance(second, Blocked)
    for slot, fmt, allowed in zip(
        ("input", "weight"), (first, second), _axes(geometry, kind), strict=True
    ):
        if fmt.axis is not None and fmt.axis not in allowed:
            return f"{slot}={fmt}: its blocks do not run along what is summed"
    if geometry.spatial and geometry.groups > 1 and first.rounding.is_stochastic:
        return f"input={first} is cast beforehand, across the groups of channels"
    if max(first.block, second.block) % min(first.block, second.block):
        return f"blocks of {first.block} and of {second.block} do not nest"
    if _pair(first, second) is None:
        return f"dots of {first} and {second} have too many bits"
    return None


def pair_of(first: Blocked, second: Blocked) -> Pair:
    """The facts of two formats of which :func:`qualifies` holds.

    >>> from dovetail.formats import format
    >>> mx, e5m2 = format("mxfp8_e4m3"), format("mxfp8_e5m2")
    >>> pair_of(mx, mx).bound == 32 * (448 * 2**9) ** 2, pair_of(mx, mx).split
    (True, 0)
    >>> pair_of(e5m2, e5m2).split
    16
    """
    found = _pair(first, second)
    assert found is not None
    return found


@lru_cache(maxsize=256)
def _pair(first: Blocked, second: Blocked) -> Pair | None:
    dot = min(first.block, second.block)
    a, b = _code_most(first), _code_most(second)
    scales = _scale_most(first) * _scale_most(second)
    bound = dot * a * b * scales
    if bound < 1 << _EXACT:
        return Pair(first, second, dot, bound)
    # Low parts are below 2**split, high ones multiples of it: a float's last bit stays whole.
    split = (bound >> _EXACT).bit_length()
    fits = dot * b << split < 1 << _EXACT and scales == 1 and a < 1 << 40
    found = Pair(first, second, dot, bound, split)
    return found if fits and not first.rounding.is_stochastic else None


def _alone(fmt: Format | None) -> str | None:
    """Why no product of ``fmt`` is exact."""
    if not isinstance(fmt, Blocked):
        return "has no blocks"
    element = fmt.element
    if not isinstance(element, (FixedFormat, FloatFormat)) or not element.signed:
        return "has elements that are looked up, not multiplied"
    if not -22 <= element.quantum <= 0 <= element.emax or fmt.block > 2**22:
        return "has elements of too many bits"
    if isinstance(fmt, PowerScaled):
        return None
    clamps = element.clamp if isinstance(element, FixedFormat) else _saturates(element)
    if not clamps:
        return "has elements that may overflow"
    scale = scale_format(fmt)
    if fmt.rounding.is_stochastic:
        return "rounds stochastically to values with a real scale"
    if scale.rounding.is_stochastic or scale.quantum + element.quantum < -149:
        return "has scales of too many bits"
    return None


def _saturates(element: FloatFormat) -> bool:
    return element.saturation == "SatFinite" and element.zero


def _axes(geometry: Geometry, kind: str) -> tuple[set[int], set[int]]:
    if geometry.spatial:
        return {1, -geometry.spatial - 1}, {1, -geometry.spatial - 1}
    return ({-1}, {-2}) if kind == "matmul" else ({-1}, {-1, 1})


def scale_format(fmt: ScaledBlock | NVFP4) -> FloatFormat:
    """The format of a block's real scale.

    >>> from dovetail.formats import format
    >>> scale_format(format("nvfp4"))
    fp8_e4m3fn
    """
    return E4M3 if isinstance(fmt, NVFP4) else fmt.scale


def _scale_most(fmt: Blocked) -> int:
    """The largest significand of a scale, as an integer."""
    return 1 if isinstance(fmt, PowerScaled) else 2 ** (scale_format(fmt).mantissa + 1) - 1


def _code_most(fmt: Blocked) -> int:
    return max(map(abs, code_range(fmt)))


def code_range(fmt: Blocked) -> tuple[int, int]:
    """Lowest and highest code.

    >>> from dovetail.formats import format
    >>> code_range(format("mxfp4")), code_range(format("bfp(m=8, block=64)"))
    ((-12, 12), (-127, 127))
    """
    element = fmt.element
    assert isinstance(element, (FixedFormat, FloatFormat))
    unit = 2.0**element.quantum
    return int(element.min / unit), int(element.max / unit)
