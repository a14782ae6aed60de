"""What several tests of formats share: inputs, comparison of bits, and independent definitions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from gfloat import Domain, FormatInfo, RoundMode
from torch import Tensor

from dovetail.formats import FloatFormat

MODES = (
    "NearestTiesToEven",
    "NearestTiesToAway",
    "TowardZero",
    "TowardPositive",
    "TowardNegative",
    "ToOdd",
)
GFLOAT_MODES = {
    "NearestTiesToEven": RoundMode.TiesToEven,
    "NearestTiesToAway": RoundMode.TiesToAway,
    "TowardZero": RoundMode.TowardZero,
    "TowardPositive": RoundMode.TowardPositive,
    "TowardNegative": RoundMode.TowardNegative,
}
_INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal bit for bit; all NaNs count as one, -0 and +0 do not."""
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    as_int = _INTEGERS[a.element_size()]
    equal = a.contiguous().view(as_int) == b.contiguous().view(as_int)
    return bool((equal | (a.isnan() & b.isnan())).all())


def every(dtype: torch.dtype) -> Tensor:
    """All 2**16 bit patterns of float16 or bfloat16."""
    return torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)


EDGES = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 448.0, 464.0, 464.1, 480.0, 57344.0]
EDGES += [61440.0, 65504.0, 65520.0, 65536.0, 3e38, -3e38, 1e-45, -1e-45, 2.0**-149, 2.0**-127]
EDGES += [2.0**-126, 1.5 * 2.0**-127, 2.0**127, -(2.0**127), float(np.finfo(np.float32).max)]


def hostile(count: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Random bit patterns, moderate values, values of few bits (ties), and edges."""
    generator = torch.Generator().manual_seed(seed)
    as_int = _INTEGERS[torch.finfo(dtype).bits // 8]
    words = torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator, dtype=torch.int64)
    patterns = (words >> (64 - torch.finfo(dtype).bits)).to(as_int).view(dtype)
    scale = 2.0 ** torch.randint(-12, 12, (count,), generator=generator)
    moderate = torch.randn(count, generator=generator, dtype=torch.float64) * scale
    few = torch.randint(-64, 64, (count,), generator=generator).double()
    few = few * 2.0 ** torch.randint(-20, 14, (count,), generator=generator)
    edges = torch.tensor(EDGES, dtype=torch.float64)
    return torch.cat([patterns, *(v.to(dtype) for v in (moderate, few, edges))])


def with_mode(spelling: str, **arguments: object) -> str:
    """``spelling`` with further arguments."""
    extra = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return f"{spelling[:-1]}, {extra})" if spelling.endswith(")") else f"{spelling}({extra})"


def gfloat_info(fmt: FloatFormat) -> FormatInfo:
    """The same format as gfloat describes it."""
    nans = {"ieee": (1 << fmt.mantissa) - 1, "fn": 1}.get(fmt.specials, 0)
    if not fmt.signed and fmt.specials in ("fnuz", "extended"):
        nans = 1
    return FormatInfo(
        "x",
        fmt.bits,
        fmt.mantissa + 1,
        bias=fmt.offset,
        is_signed=fmt.signed,
        domain=Domain.Extended if fmt.has_inf else Domain.Finite,
        has_nz=fmt.has_negative_zero,
        num_high_nans=nans,
        has_subnormals=True,
        is_twos_complement=False,
    )


def by_table(x: np.ndarray, fmt: FloatFormat) -> np.ndarray:
    """Rounding to a signed, saturating float format by searching the list of its values.

    The list is continued upwards as if there were more exponents, so that the parity of codes and
    the middles between values are right at the upper end too.
    """
    count = len(fmt.magnitudes()) + (2 << fmt.mantissa)
    values = np.array([fmt.decode(code) for code in range(count)])
    size, negative = np.abs(x), np.signbit(x)
    capped = np.minimum(np.nan_to_num(size, nan=0.0), values[-2])
    low = np.searchsorted(values, capped, side="right") - 1
    middle = (values[low] + values[low + 1]) / 2
    inexact, odd = capped != values[low], low % 2 == 1
    up = {
        "NearestTiesToEven": (capped > middle) | ((capped == middle) & odd),
        "NearestTiesToAway": capped >= middle,
        "TowardZero": np.zeros_like(odd),
        "TowardPositive": ~negative,
        "TowardNegative": negative,
        "ToOdd": ~odd,
    }[fmt.rounding.name]
    y = np.minimum(values[low + (inexact & up)], fmt.max)
    y = np.where(negative & ((y > 0) | fmt.has_negative_zero), -y, y)
    return np.where(np.isnan(x), np.nan, y)


def nearest_multiple(x: Fraction, step: Fraction, low: int, high: int) -> Fraction:
    """Ties to even; Python's own rounding of fractions."""
    return max(low, min(high, round(x / step))) * step
