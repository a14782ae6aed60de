"""Tables, segments and polynomials: the core of a function stands in a list of small polynomials.

A table and segments see a function as it is, between the ends of a domain, or by the reduction of
one that has a natural one (``exp``: 2**t for t from 0 to 1). A polynomial sees one half of it: of a
sigmoid or tanh the positive one, of gelu and silu the factor of x there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from dovetail.approximations.base import check_gradient
from dovetail.approximations.functions import FUNCTIONS, Function, function
from dovetail.approximations.minimax import minimax
from dovetail.approximations.pieces import SPACINGS, Pieces, edges, fit_pieces
from dovetail.approximations.piecewise import Piecewise
from dovetail.approximations.reductions import Direct, Gate, Reduction
from dovetail.approximations.steps import intermediate
from dovetail.errors import DovetailError, unknown
from dovetail.formats import Format

__all__ = ["Base2", "Poly", "Pwl", "Table"]


def _bounded(
    reduction: Reduction, domain: tuple[float, float] | None, what: str, name: str
) -> Reduction:
    """The reduction over the user's domain."""
    if domain is None:
        return reduction
    if isinstance(reduction, Direct):
        return replace(reduction, low=domain[0], high=domain[1])
    if isinstance(reduction, Gate):
        if domain[0] != -domain[1]:
            raise DovetailError(
                f"{what}: {name} is computed by its positive half, so a domain is symmetric, such "
                f"as ({_number(-domain[1])}, {_number(domain[1])})"
            )
        return replace(reduction, cut=domain[1])
    low, high = (_number(v) for v in reduction.interval)
    raise DovetailError(
        f"{what}: {name} has no domain to choose, every argument is brought to {low}..{high} first"
    )


def _number(value: float) -> str:
    return f"{value:g}"


def _check_domain(domain: tuple[float, float] | None, what: str) -> tuple[float, float] | None:
    if domain is None:
        return None
    numbers = [v for v in domain if isinstance(v, (int, float)) and math.isfinite(v)]
    if len(domain) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise DovetailError(f"{what}: a domain is two ascending numbers such as (-8, 8)")
    return float(numbers[0]), float(numbers[1])


def _check_count(value: int, top: int, what: str) -> None:
    if not 1 <= value <= top:
        raise DovetailError(f"{what} is from 1 to {top}, not {value}")


@dataclass(frozen=True, repr=False)
class Poly(Piecewise):
    """``poly<degree>``: one polynomial of smallest maximum error, by Horner's rule.

    Sigmoid, tanh, gelu and silu end at ``domain`` (by default where that gives the smallest error):
    beyond, they are what they tend to. Their polynomial is of the positive half: of gelu and silu
    the factor of x, weighted by x. An exponential's is of ``2**t``, a reciprocal's of the mantissa,
    a sine's of a quarter of a wave.

    >>> import torch
    >>> from dovetail.approximations import approximation
    >>> y = approximation("poly2").evaluate(function("exp"), torch.zeros(1, dtype=torch.float64))
    >>> round(y.item(), 3)
    1.002
    """

    degree: int
    format: Format | None = None
    domain: tuple[float, float] | None = None
    grad: str = "exact"

    in_name = ("degree",)
    summary = "one polynomial of smallest maximum error"
    functions = tuple(name for name, known in FUNCTIONS.items() if known.part is not None)

    def __post_init__(self) -> None:
        _check_count(self.degree, 8, "poly: the degree")
        intermediate(self.format, self.name)
        object.__setattr__(self, "domain", _check_domain(self.domain, self.name))
        check_gradient(self.grad)

    @property
    def name(self) -> str:
        return f"poly{self.degree}"

    def reduction(self, function: Function) -> Reduction:
        part = _half(function)
        if isinstance(part, Gate) and self.domain is None:
            return replace(part, cut=_best_cut(function.name, self.degree))
        return _bounded(part, self.domain, str(self), function.name)

    def fitted(self, function: Function) -> Pieces:
        part = self.reduction(function)
        return fit_pieces(part.core, list(part.interval), self.degree, part.weight, self.rounded)


def _half(function: Function) -> Reduction:
    assert function.part is not None  # check_function has refused the others
    return function.part


@lru_cache(maxsize=64)
def _best_cut(name: str, degree: int) -> float:
    """Where a gate should be taken for 1: the error before and after is smallest; in sixteenths."""
    part = function(name).part
    assert isinstance(part, Gate)
    best = (math.inf, 0.0)
    for sixteenths in range(16, 193, 2):
        cut = sixteenths / 16
        jump = (1.0 - part.core(cut)) * part.weight(cut)
        if jump >= best[0]:
            continue
        inner = minimax(part.core, 0.0, cut, degree, part.weight)[1]
        best = min(best, (max(jump, inner), cut))
    return best[1]


@dataclass(frozen=True, repr=False)
class Pwl(Piecewise):
    """``pwl(segments)``: linear segments of smallest maximum error each.

    Breakpoints are ``uniform``, or closer where the ``curvature`` is larger.
    """

    segments: int
    format: Format | None = None
    domain: tuple[float, float] | None = None
    spacing: str = "uniform"
    grad: str = "exact"

    name = "pwl"
    summary = "linear segments of smallest maximum error"

    def __post_init__(self) -> None:
        _check_count(self.segments, 4096, "pwl: the number of segments")
        intermediate(self.format, self.name)
        object.__setattr__(self, "domain", _check_domain(self.domain, self.name))
        if self.spacing not in SPACINGS:
            raise unknown("spacing of pwl", str(self.spacing), SPACINGS)
        check_gradient(self.grad)

    def reduction(self, function: Function) -> Reduction:
        return _bounded(function.whole, self.domain, str(self), function.name)

    def fitted(self, function: Function) -> Pieces:
        whole = self.reduction(function)
        ends = edges(whole.core, *whole.interval, self.segments, 1, self.spacing)
        return fit_pieces(whole.core, ends, 1, whole.weight, self.rounded)


@dataclass(frozen=True, repr=False)
class Table(Piecewise):
    """``table(entries)``: equal cells, each with the value of smallest maximum error.

    ``format`` is that of the entries alone; an integer format has one scale for all of them. What
    is around a table (the power of two of an exponential) is exact.
    """

    entries: int
    format: Format | None = None
    domain: tuple[float, float] | None = None
    grad: str = "exact"

    name = "table"
    summary = "one value for each of equal cells"

    def __post_init__(self) -> None:
        _check_count(self.entries, 65536, "table: the number of entries")
        object.__setattr__(self, "domain", _check_domain(self.domain, self.name))
        check_gradient(self.grad)

    @property
    def steps_format(self) -> Format | None:
        return None

    def reduction(self, function: Function) -> Reduction:
        return _bounded(function.whole, self.domain, str(self), function.name)

    def fitted(self, function: Function) -> Pieces:
        whole = self.reduction(function)
        low, high = whole.interval
        ends = edges(whole.core, low, high, self.entries, 0, "uniform")
        middles = [_middle(whole, a, b) for a, b in pairwise(ends)]
        return Pieces(tuple(ends[:-1]), tuple((v,) for v in self.rounded(middles)))


def _middle(whole: Reduction, low: float, high: float) -> float:
    """Half way between the smallest and the largest value of a cell."""
    values = [whole.core(low + (high - low) * i / 8) for i in range(9)]
    return (min(values) + max(values)) / 2


@dataclass(frozen=True, repr=False)
class Base2(Piecewise):
    """``base2``: exponentials by ``2**(k + t) = 2**k * (t + 0.957)``, without a multiplier.

    >>> Base2().pieces(function("exp")).degree
    1
    """

    format: Format | None = None
    grad: str = "exact"

    name = "base2"
    summary = "2**t as t + 0.957, without a multiplier"
    functions = ("exp",)

    def __post_init__(self) -> None:
        intermediate(self.format, self.name)
        check_gradient(self.grad)

    def reduction(self, function: Function) -> Reduction:
        return _half(function)

    def fitted(self, function: Function) -> Pieces:
        del function
        return Pieces((0.0,), (tuple(self.rounded([0.957, 1.0])),))
