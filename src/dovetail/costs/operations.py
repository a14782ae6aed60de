"""What one addition and one product cost: declared figures, and the rules between them.

Where a format is not declared, its figures lie on straight lines through zero and the declared
ones: over the bits of an integer addition, over the product of the widths of an integer product,
over the significand's bits of a floating-point addition. A floating-point product is the integer
product of its significands and a rest (exponents, normalisation, rounding) that lies on such a line
over the significand's bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dovetail.costs.operands import Float, Integer, Operand, Pair
from dovetail.costs.tables import CIRCUITS, Declared, Tables
from dovetail.multipliers import Cost, FloatMultiplier, Multiplier
from dovetail.multipliers.exact import Exact

__all__ = ["Operations", "Price", "interpolated"]


@dataclass(frozen=True)
class Price:
    """What one operation costs, ``how`` that is known, or ``missing``: what to declare."""

    energy_pj: float | None
    area_um2: float | None = None
    delay_ns: float | None = None
    how: str = ""
    missing: str = ""


FREE = Price(0.0, 0.0, 0.0)


def interpolated(points: Mapping[float, float], at: float) -> float:
    """On the straight lines through the origin and the points, the last one going on.

    >>> interpolated({8: 2.0, 16: 6.0}, 12), interpolated({8: 2.0, 16: 6.0}, 20)
    (4.0, 8.0)
    >>> interpolated({8: 2.0}, 2)
    0.5
    """
    known = [(0.0, 0.0), *sorted((float(x), y) for x, y in points.items() if x > 0)]
    above = next((i for i, (x, _) in enumerate(known) if x >= at), len(known) - 1)
    (x0, y0), (x1, y1) = known[max(above - 1, 0)], known[max(above, 1)]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


class Operations:
    """Prices by the tables, each found once."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def add(self, operand: Operand) -> Price:
        """One addition of two such numbers.

        >>> from dovetail.costs.tables import tables_for
        >>> Operations(tables_for(None, 45)).add(Integer(16)).how
        'int16 addition: between int8 and int32 by the bits (horowitz2014)'
        """
        known = self.tables.add
        if operand in known:
            return _exactly(known[operand], f"{operand} addition")
        if isinstance(operand, Integer):
            points = {o.bits: d for o, d in known.items() if isinstance(o, Integer)}
            return _between(points, operand.bits, f"{operand} addition", "int{}", "bits", "add")
        if isinstance(operand, Float):
            points = {o.significand: d for o, d in known.items() if isinstance(o, Float)}
            what = f"{operand} addition"
            return _between(
                points, operand.significand, what, "{} bits", "significand's bits", "add"
            )
        return _unknown(f"{operand} addition", f"add: {{'{operand}': <pJ>}}")

    def multiply(self, first: Operand, second: Operand) -> Price:
        """One exact product."""
        pair, known = (first, second), self.tables.multiply
        what = f"{_shown(pair)} product"
        if pair in known:
            return _exactly(known[pair], what)
        if isinstance(first, Integer) and isinstance(second, Integer):
            return self._integers(first.bits, second.bits, what)
        if isinstance(first, Float) and isinstance(second, Float):
            return self._floats(first, second, what)
        return _unknown(what, f"multiply: {{'{_shown(pair)}': <pJ>}}")

    def by(self, mul: Multiplier | FloatMultiplier, first: Operand, second: Operand) -> Price:
        """One product by a multiplier: the exact one, times what its circuit saves."""
        declared = self.tables.circuits.get(repr(mul))
        if declared is not None:
            return _exactly(declared, f"{mul!r}")
        if isinstance(mul, FloatMultiplier):
            return self._float_multiplier(mul)
        if isinstance(mul, Exact):
            price = self.multiply(first, second)
            if isinstance(first, Integer) and isinstance(second, Integer):
                return self._with_delay(price, Exact((first.bits, second.bits)))
            return price
        a, w = mul._width()
        whole = self.multiply(Integer(a), Integer(w))
        return self._with_delay(_share(whole, mul), mul)

    def _integers(self, first: int, second: int, what: str) -> Price:
        points = {
            a.bits * b.bits: d
            for (a, b), d in self.tables.multiply.items()
            if isinstance(a, Integer) and isinstance(b, Integer)
        }
        return _between(
            points, first * second, what, "{} partial products", "product of the widths", "multiply"
        )

    def _floats(self, first: Float, second: Float, what: str) -> Price:
        inner = self._integers(first.significand, second.significand, "significands")
        rest = self._rest(max(first.significand, second.significand))
        if inner.energy_pj is None or rest.energy_pj is None:
            return _unknown(what, f"multiply: {{'{_shown((first, second))}': <pJ>}}")
        return _sum(
            inner, rest, f"{what}: an integer product of the significands, and a {rest.how}"
        )

    def _rest(self, significand: int) -> Price:
        """What a floating-point product takes beside that of its significands."""
        points = {}
        for (a, b), declared in self.tables.multiply.items():
            if isinstance(a, Float) and a == b and declared.energy_pj is not None:
                inner = self._integers(a.significand, a.significand, "")
                if inner.energy_pj is not None:
                    points[a.significand] = _less(declared, inner)
        return _between(points, significand, "rest", "{} bits", "significand's bits", "multiply")

    def _float_multiplier(self, mul: FloatMultiplier) -> Price:
        operand = Float(mul.format.exponent, mul.format.mantissa + 1)
        whole = self.multiply(operand, operand)
        if isinstance(mul.mantissa, Exact):
            return whole
        bits = mul.mantissa._width()
        inner = self._integers(*bits, "significands")
        share, rest = _share(inner, mul.mantissa), self._rest(operand.significand)
        if share.energy_pj is None or rest.energy_pj is None:
            return replace(share, missing=share.missing.replace(repr(mul.mantissa), repr(mul)))
        return _sum(share, rest, f"{mul!r}: significands: {share.how}, and a {rest.how}")

    def _with_delay(self, price: Price, mul: Multiplier) -> Price:
        """The circuit's own delay, where it was measured at this node and nothing is declared."""
        known = (
            price.delay_ns is None and self.tables.node == CIRCUITS and price.energy_pj is not None
        )
        return replace(price, delay_ns=mul.cost.delay_ns) if known and mul.cost else price


def _share(whole: Price, mul: Multiplier) -> Price:
    """The exact product's price by what the circuit takes of the exact circuit."""
    own, full = mul.cost, Exact(mul._width(), mul.signed).cost
    if own is None or whole.energy_pj is None:
        return _unknown(f"{mul!r}", f"circuits: {{'{mul!r}': <pJ>}}")
    assert full is not None
    energy, area = own.energy_pj / full.energy_pj, own.area_um2 / full.area_um2
    return Price(
        whole.energy_pj * energy,
        None if whole.area_um2 is None else whole.area_um2 * area,
        None,
        f"{mul!r}: {energy:.3g} of the exact product ({_origin(own)}); {whole.how}",
    )


def _origin(cost: Cost) -> str:
    return cost.source if cost.source.startswith("estimated") else f"measured: {cost.source}"


def _exactly(declared: Declared, what: str) -> Price:
    if declared.energy_pj is None:
        return _unknown(what, f"its energy_pj in {declared.table}")
    figures = (declared.energy_pj, declared.area_um2, declared.delay_ns)
    return Price(*figures, f"{what}: {declared.energy_pj:.4g} pJ ({declared.table})")


def _between(
    points: Mapping[int, Declared], at: int, what: str, unit: str, by: str, block: str
) -> Price:
    energies = {float(x): d.energy_pj for x, d in points.items() if d.energy_pj is not None}
    areas = {float(x): d.area_um2 for x, d in points.items() if d.area_um2 is not None}
    if not energies:
        return _unknown(what, f"{block}: {{{what.split()[0]}: <pJ>}}")
    names = ", ".join(dict.fromkeys(d.table for d in points.values()))
    if at in energies:
        how = f"{what} as of {unit.format(f'{at:g}')} ({names})"
    elif len(energies) == 1 or at < min(energies):
        how = f"{what}: in proportion to {unit.format(f'{min(energies):g}')} by the {by} ({names})"
    else:
        below = max((x for x in energies if x < at), default=0)
        others = [x for x in energies if x > at] or [x for x in energies if x < below]
        other = min(others) if at < max(energies) else max(others)
        ends = " and ".join(unit.format(f"{x:g}") for x in sorted((below, other)))
        how = (
            f"{what}: {'between' if at < max(energies) else 'on from'} {ends} by the {by} ({names})"
        )
    area = interpolated(areas, at) if areas else None
    return Price(interpolated(energies, at), area, None, how)


def _less(declared: Declared, inner: Price) -> Declared:
    """What of a floating-point product is not its significands' product, but never less than 0."""
    assert declared.energy_pj is not None
    assert inner.energy_pj is not None
    area = None
    if declared.area_um2 is not None and inner.area_um2 is not None:
        area = max(0.0, declared.area_um2 - inner.area_um2)
    return Declared(max(0.0, declared.energy_pj - inner.energy_pj), area, None, declared.table)


def _sum(one: Price, other: Price, how: str) -> Price:
    assert one.energy_pj is not None
    assert other.energy_pj is not None
    known = one.area_um2 is not None and other.area_um2 is not None
    area = one.area_um2 + other.area_um2 if known else None  # type: ignore[operator]
    return Price(one.energy_pj + other.energy_pj, area, None, how)


def _unknown(what: str, declare: str) -> Price:
    return Price(None, how=f"{what}: not known", missing=f"declare '{declare}' in a table of costs")


def _shown(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} x {pair[1]}"
