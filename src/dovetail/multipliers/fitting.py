"""What a table of products is, or what comes nearest to it among the structures that are known."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dovetail.errors import DovetailError
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.factorisation import bit_weights
from dovetail.multipliers.partial_products import array
from dovetail.multipliers.registry import multiplier
from dovetail.multipliers.sign_magnitude import SignMagnitude

__all__ = ["Fit", "fit"]


@dataclass(frozen=True)
class Fit:
    """A structured multiplier or model beside a table: ``equal`` is the share of equal products,
    ``rms`` and ``worst`` are of the differences; ``spelling`` makes it, if it is a multiplier."""

    kind: str
    spelling: str
    equal: float
    rms: float
    worst: float

    @property
    def exact(self) -> bool:
        """Whether every product is the same."""
        return self.worst == 0

    def to_dict(self) -> dict[str, Any]:
        """The same by name."""
        return {**asdict(self), "exact": self.exact}


def fit(m: Multiplier, most: int = 8) -> list[Fit]:
    """Up to ``most`` structures that describe ``m``, the nearest first.

    Tried are the exact product, the families over their parameters, arrays of magnitudes where the
    sign is treated apart, the array of partial products (with a constant) that is nearest in the
    mean square, and a polynomial. Every difference is over
    all operand pairs; at most 8 + 8 bits.

    >>> from dovetail.multipliers import multiplier
    >>> secret = multiplier(lambda a, w: (a & ~3) * (w & ~1), bits=6)
    >>> fit(secret)[0].spelling
    'truncate(bits=6, drop_first=2, drop_second=1, signed=True)'
    """
    if sum(m._width()) > 16:
        raise DovetailError(f"{m!r} has too many products: structures are fitted up to 8 + 8 bits")
    candidates = itertools.chain(_families(m), _by_magnitude(m))
    found = [_compared(m, "family", candidate) for candidate in candidates]
    found.append(_compared(m, "array", _nearest_array(m)))
    model = m.model("poly")
    found.append(Fit("polynomial", "", 0.0, model.fidelity.rms, model.fidelity.max))
    distinct = {(one.kind, one.spelling): one for one in found}.values()
    return sorted(distinct, key=lambda one: (not one.exact, one.rms, one.worst))[:most]


def _compared(m: Multiplier, kind: str, candidate: Multiplier) -> Fit:
    difference = candidate._products - m._products
    rms = float(np.sqrt((difference.astype(np.float64) ** 2).mean()))
    equal = float((difference == 0).mean())
    return Fit(kind, repr(candidate), equal, rms, float(np.abs(difference).max()))


_Way = tuple[str, dict[str, Any]]


def _arrays(bits: tuple[int, int]) -> Iterator[_Way]:
    for i, j in itertools.product(range(bits[0]), range(bits[1])):
        yield "truncate", {"drop_first": i, "drop_second": j}
    for c, r in itertools.product(range(1, sum(bits) - 1), range(bits[1])):
        yield "broken_array", {"drop_columns": c, "drop_rows": r}
    for c, how in itertools.product(range(1, sum(bits) - 1), ("constant", "variable")):
        yield "truncated", {"drop_columns": c, "compensation": how}


def _families(m: Multiplier) -> Iterator[Multiplier]:
    """The members of the published families that have this width and sign."""
    bits, widest = m._width(), max(m._width())
    ways: list[_Way] = [("exact", {}), *_arrays(bits)]
    ways += [("drum", {"k": k}) for k in range(2, widest + 1)]
    ways += [(name, {"m": n}) for name in ("ssm", "essm", "dsm") for n in range(2, widest + 1)]
    ways += [("iterative_log", {"iterations": n}) for n in (1, 2, 3)]
    ways += [
        ("alm", {"adder": adder, "m": n})
        for adder, n in itertools.product(("soa", "loa"), range(1, widest))
    ]
    ways += [("etm", {"split": n}) for n in range(1, min(bits))]
    ways += [(name, {}) for name in ("mitchell", "mbm", "l_mul", "roba", "kulkarni")]
    yield from _members(ways, bits, m.signed)


def _members(ways: Iterable[_Way], bits: tuple[int, int], signed: bool) -> Iterator[Multiplier]:
    for name, given in ways:
        try:
            yield multiplier(name, bits=bits, signed=signed, format=None, **given)
        except DovetailError:  # a family that has no member of this width
            continue


def _by_magnitude(m: Multiplier) -> Iterator[Multiplier]:
    """Arrays of the magnitudes, for a multiplier of which ``f(-a, w) = -f(a, w) = f(a, -w)``."""
    if not m.signed:
        return
    table = m._products
    for side in (table, table.T):
        codes = np.arange(len(side))
        own = np.delete(codes, [0, len(side) // 2])  # 0 and the lowest have no opposite
        if (side[-own] != -side[own]).any():
            return
    for core in _members(_arrays(m._width()), m._width(), False):
        yield SignMagnitude(core, core._width(), True)


def _nearest_array(m: Multiplier) -> Multiplier:
    """Least squares over the bits' products and a constant, rounded to what an array can be."""
    sides = []
    for width in m._width():
        binary = np.arange(1 << width)[:, None] >> np.arange(width) & 1
        sides.append((binary * bit_weights(width, m.signed)).astype(np.float64))
    # Bits less their mean, 1/2, are independent over all codes: so each coefficient stands alone.
    centred = [side - side.mean(axis=0) for side in sides]
    powers = np.outer(*((side**2).sum(axis=0) for side in centred))
    share = centred[0].T @ m._products @ centred[1] / powers
    kept = np.round(share).clip(0, 1).astype(np.int64)
    mask = sum(1 << int(place) for place in np.flatnonzero(kept))
    plain = array(mask, m._width(), m.signed)
    rest = float((m._products - plain._products).mean())
    return _with_constant(plain, mask, round(rest), m)


def _with_constant(plain: Multiplier, mask: int, constant: int, m: Multiplier) -> Multiplier:
    try:
        return array(mask, m._width(), m.signed, constant)
    except DovetailError:  # beyond the bits of a product
        return plain
