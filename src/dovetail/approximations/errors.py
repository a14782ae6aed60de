"""How far an approximation is from the exact function, at most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.approximations.base import Approximation, Unary
from dovetail.approximations.functions import Function, function
from dovetail.errors import DovetailError

__all__ = ["MaxError", "max_error"]


@dataclass(frozen=True)
class MaxError:
    """The largest error of an approximation: absolute, or ``relative`` to the exact value.

    ``domain`` are the arguments it holds for; of a softmax and the normalisations it says which
    rows.

    >>> MaxError(0.5, True, "x from 1 to 2")
    0.5 of the value, x from 1 to 2
    """

    value: float
    relative: bool
    domain: str

    def __repr__(self) -> str:
        return f"{self.value:.3g}{' of the value' if self.relative else ''}, {self.domain}"


def max_error(approximation: Approximation, name: str) -> MaxError:
    """The maximum error in computing a function, or the kind of operation, of that name.

    For a function of one variable it is found on 2**16 points of its domain and all numbers of
    fp16 in it, and a twentieth is added for what may lie in between. Relative errors are those of
    exp, reciprocal and rsqrt. For a softmax and its logarithm (absolute) and the normalisations
    (relative to the largest value of the row) it is the largest over rows of 2 to 512 values, of
    small and of large spread, and a quarter is added: no bound, but what those rows have shown.

    >>> from dovetail.approximations.registry import approximation
    >>> max_error(approximation("poly2"), "exp")
    0.00181 of the value, x from -8 to 8
    """
    if not isinstance(approximation, Approximation):
        raise DovetailError(f"an approximation is one such as dv.approximation('poly2'), not "
                            f"{approximation!r}")  # fmt: skip
    return _measured(approximation, name)


@lru_cache(maxsize=512)
def _measured(approximation: Approximation, name: str) -> MaxError:
    if name in ("softmax", "log_softmax", "layer_norm", "rms_norm"):
        return _of_rows(approximation, name)
    known = function(name)
    if not isinstance(approximation, Unary):
        raise DovetailError(f"{approximation} does not compute {name} alone")
    approximation.check_function(known)
    low, high = known.domain
    x = _points(known)
    error = (approximation.evaluate(known, x) - known.exact(x)).abs()
    error = error / known.exact(x).abs() if known.relative else error
    shown = f"x from {low:g} to {high:g}"
    return MaxError(1.05 * float(error.max()), known.relative, shown)


def _points(known: Function) -> Tensor:
    low, high = known.domain
    x = torch.linspace(0.0, 1.0, 2**16 + 1, dtype=torch.float64)
    if low > 0:
        x = torch.exp2(math.log2(low) + (math.log2(high) - math.log2(low)) * x)
    else:
        x = low + (high - low) * x
    halves = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.float16).double()
    return torch.cat([x, halves[(halves >= low) & (halves <= high)]])


def _of_rows(approximation: Approximation, kind: str) -> MaxError:
    approximation.check(kind)
    worst = 0.0
    for count in (2, 5, 16, 64, 512):
        rows = _rows(count)
        attributes: dict[str, Any] = {"dim": -1, "normalized_shape": (count,), "eps": 1e-5}
        y = approximation.compute(kind, {"input": rows}, attributes)
        wanted = _exact(kind, rows, attributes)
        size = 1.0 if kind in ("softmax", "log_softmax") else wanted.abs().amax(-1, keepdim=True)
        worst = max(worst, float(((y - wanted).abs() / size).max()))
    domain = "rows of 2 to 512 values, spread 1/4 to 8"
    return MaxError(1.25 * worst, kind not in ("softmax", "log_softmax"), domain)


def _rows(count: int) -> Tensor:
    """Random rows that are the same at every call, of different spread and mean."""
    generator = torch.Generator().manual_seed(count)
    rows = torch.randn(96, count, generator=generator, dtype=torch.float64)
    spread = torch.exp2(torch.arange(96, dtype=torch.float64) % 6 - 2)
    mean = torch.arange(96, dtype=torch.float64) % 7 - 3
    return rows * spread[:, None] + mean[:, None]


def _exact(kind: str, rows: Tensor, attributes: Mapping[str, Any]) -> Tensor:
    if kind in ("softmax", "log_softmax"):
        return torch.softmax(rows, -1) if kind == "softmax" else torch.log_softmax(rows, -1)
    norm = F.layer_norm if kind == "layer_norm" else F.rms_norm
    return norm(rows, attributes["normalized_shape"], eps=attributes["eps"])
