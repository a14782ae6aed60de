"""The functions of one variable that can be approximated: what they are, and how they reduce."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.approximations.reductions import (
    Direct,
    Exponential,
    Gate,
    Mantissa,
    Reduction,
    Turn,
)
from dovetail.errors import DovetailError, unknown

__all__ = ["FUNCTIONS", "Function", "function", "function_of"]


@dataclass(frozen=True)
class Function:
    """One function: ``value`` of a number, ``exact`` of a float64 tensor.

    ``whole`` is how tables and segments see it, ``part`` how polynomials do (None: they do not, as
    it has no half that gives the other). Errors are stated over
    ``domain``, ``relative`` to the value where it spans many powers of two.
    """

    name: str
    value: Callable[[float], float]
    exact: Callable[[Tensor], Tensor]
    domain: tuple[float, float]
    whole: Reduction
    part: Reduction | None
    relative: bool = False


def _sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t)) if t >= 0 else math.exp(t) / (1 + math.exp(t))


def _normal(t: float) -> float:
    return 0.5 * math.erfc(-t / math.sqrt(2))


def _near_normal(t: float) -> float:
    """What the tanh form of GELU takes for the normal distribution."""
    return _sigmoid(2 * math.sqrt(2 / math.pi) * (t + 0.044715 * t**3))


def _gelu(t: float) -> float:
    return t * _normal(t)


def _gelu_tanh(t: float) -> float:
    return t * _near_normal(t)


def _silu(t: float) -> float:
    return t * _sigmoid(t)


def _quick_gelu(t: float) -> float:
    return t * _sigmoid(1.702 * t)


def _softplus(t: float) -> float:
    return max(t, 0.0) + math.log1p(math.exp(-abs(t)))


def _mish(t: float) -> float:
    return t * math.tanh(_softplus(t))


def _quick_gelu_exact(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _gelu_tanh_exact(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _reduced(
    name: str,
    value: Callable[[float], float],
    exact: Callable[[Tensor], Tensor],
    domain: tuple[float, float],
    reduction: Reduction,
    relative: bool = True,
) -> Function:
    return Function(name, value, exact, domain, reduction, reduction, relative)


#: Every function, by name.
FUNCTIONS: dict[str, Function] = {
    f.name: f
    for f in (
        Function(
            "gelu",
            _gelu,
            F.gelu,
            (-8.0, 8.0),
            Direct(_gelu, -4.0, 4.0, 0.0, "x"),
            Gate(_normal, 0.0, times_x=True),
        ),
        Function(
            "gelu_tanh",
            _gelu_tanh,
            _gelu_tanh_exact,
            (-8.0, 8.0),
            Direct(_gelu_tanh, -4.0, 4.0, 0.0, "x"),
            Gate(_near_normal, 0.0, times_x=True),
        ),
        Function(
            "silu",
            _silu,
            F.silu,
            (-16.0, 16.0),
            Direct(_silu, -8.0, 8.0, 0.0, "x"),
            Gate(_sigmoid, 0.0, times_x=True),
        ),
        Function(
            "quick_gelu",
            _quick_gelu,
            _quick_gelu_exact,
            (-8.0, 8.0),
            Direct(_quick_gelu, -6.0, 6.0, 0.0, "x"),
            Gate(lambda t: _sigmoid(1.702 * t), 0.0, times_x=True),
        ),
        Function("mish", _mish, F.mish, (-16.0, 16.0), Direct(_mish, -8.0, 8.0, 0.0, "x"), None),
        Function(
            "softplus",
            _softplus,
            F.softplus,
            (-16.0, 16.0),
            Direct(_softplus, -8.0, 8.0, 0.0, "x"),
            None,
        ),
        Function(
            "sigmoid",
            _sigmoid,
            torch.sigmoid,
            (-16.0, 16.0),
            Direct(_sigmoid, -8.0, 8.0, 0.0, 1.0),
            Gate(_sigmoid, 0.0),
        ),
        Function(
            "tanh",
            math.tanh,
            torch.tanh,
            (-8.0, 8.0),
            Direct(math.tanh, -4.0, 4.0, -1.0, 1.0),
            Gate(math.tanh, 0.0, odd=True),
        ),
        _reduced("exp", math.exp, torch.exp, (-8.0, 8.0), Exponential()),
        _reduced("reciprocal", lambda t: 1 / t, torch.reciprocal, (2.0**-14, 2.0**14), Mantissa(1)),
        _reduced(
            "rsqrt", lambda t: 1 / math.sqrt(t), torch.rsqrt, (2.0**-14, 2.0**14), Mantissa(2)
        ),
        _reduced("sin", math.sin, torch.sin, (-64.0, 64.0), Turn(0), relative=False),
        _reduced("cos", math.cos, torch.cos, (-64.0, 64.0), Turn(1), relative=False),
    )
}


def function(name: str) -> Function:
    """The function of that name.

    >>> function("gelu").value(0.0)
    0.0
    >>> function("gleu")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown function 'gleu'; did you mean 'gelu'? ...
    """
    if name not in FUNCTIONS:
        raise unknown("function", name, FUNCTIONS)
    return FUNCTIONS[name]


def function_of(kind: str, attributes: Mapping[str, Any]) -> Function:
    """The function that one call of an operation computes.

    >>> function_of("gelu", {"approximate": "tanh"}).name
    'gelu_tanh'
    """
    beta = attributes.get("beta", 1)
    if kind == "softplus" and beta != 1:
        raise DovetailError(f"softplus(beta={beta}): approximations are of beta=1")
    form = attributes.get("approximate", "none")
    if kind == "gelu" and form not in ("none", "tanh"):
        raise DovetailError(f"gelu(approximate={form!r}): it is 'none' or 'tanh'")
    return function("gelu_tanh" if kind == "gelu" and form == "tanh" else kind)
