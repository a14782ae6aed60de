"""The catalogued circuits as multipliers, addressed by ``name@version``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from dovetail.errors import DovetailError
from dovetail.multipliers.cost import Cost
from dovetail.multipliers.facts import CircuitFacts, all_facts
from dovetail.multipliers.partial_products import PartialProducts

__all__ = ["DEFAULT_VERSION", "CatalogCircuit", "catalog", "figures_only", "find_circuit"]

DEFAULT_VERSION = "v2022"


@dataclass(frozen=True, eq=False, repr=False)
class CatalogCircuit(PartialProducts):
    """A circuit of EvoApproxLib: the masked array it is, and its measured cost."""

    @property
    def facts(self) -> CircuitFacts:
        """The published figures."""
        return all_facts()[self.spelling]

    @property
    def cost(self) -> Cost:
        """Power, area and delay as the library reports them."""
        return self.facts.cost


def catalog(
    bits: int | None = None, signed: bool | None = None, version: str | None = None
) -> tuple[CircuitFacts, ...]:
    """The circuits that `multiplier` knows by name, optionally of one width, sign or version.

    >>> len(catalog(bits=8, signed=True, version="v2022"))
    13
    >>> catalog()[0].spelling
    'mul8s_1KR3@v1.1'
    """
    return tuple(
        circuit
        for circuit in all_facts().values()
        if circuit.mask is not None
        and (bits is None or circuit.bits == (bits, bits))
        and (signed is None or circuit.signed == signed)
        and (version is None or circuit.version == version)
    )


def find_circuit(name: str) -> CatalogCircuit | None:
    """The circuit of that name, a bare one meaning v2022; None when the table knows no such name.

    A name that exists only in another version, or a circuit without a mask, is a `DovetailError`.

    >>> find_circuit("mul8s_1KV9")
    mul8s_1KV9@v2022
    """
    stem, _, version = name.partition("@")
    facts = all_facts().get(f"{stem}@{version or DEFAULT_VERSION}")
    if facts is None:
        others = [circuit for circuit in all_facts().values() if circuit.name == stem]
        if others and all(circuit.mask is None for circuit in others):
            raise DovetailError(_without_mask(others[0]))
        if others:
            raise DovetailError(
                f"{stem} is not a circuit of {version or DEFAULT_VERSION}; "
                f"did you mean '{others[0].spelling}'? (The same name can mean another circuit in "
                f"another version.)"
            )
        return None
    if facts.mask is None:
        raise DovetailError(_without_mask(facts))
    return CatalogCircuit(facts.mask, facts.bits, facts.signed, facts.spelling)


def figures_only(name: str) -> tuple[CircuitFacts, str] | None:
    """The published figures of a circuit whose products are not known, and how to come by them.

    None for every other name.

    >>> figures_only("mul8u_197B")[0].mae, figures_only("mul8s_1KV9")
    (119.0, None)
    """
    stem, _, version = name.partition("@")
    named = [c for c in all_facts().values() if c.name == stem and version in ("", c.version)]
    if not named or any(circuit.mask is not None for circuit in named):
        return None
    return named[0], _without_mask(named[0])


def _without_mask(facts: CircuitFacts) -> str:
    """What to do about a circuit of which only the figures are known."""
    alike = [c for c in catalog(facts.bits[0], facts.signed) if c.mask]
    near = min(alike, key=lambda circuit: abs(circuit.mae - facts.mae), default=None)
    hint = f", or take '{near.spelling}' (MAE {near.mae:g})" if near else ""
    return (
        f"{facts.spelling} is not an array of partial products, so its products do not ship with "
        f"dovetail (published MAE {facts.mae:g}). Import its table or its C model, "
        f"dv.multiplier('{facts.name}.npy', signed={facts.signed}) or "
        f"dv.multiplier('{facts.name}.c'){hint}"
    )


def nearest_circuits(name: str, also: Iterable[str] = ()) -> list[str]:
    """Up to three known names like ``name``, for messages.

    >>> nearest_circuits("mul8s_1KV99")[0]
    'mul8s_1KV9'
    """
    names = {circuit.name for circuit in catalog()} | {c.spelling for c in catalog()} | set(also)
    near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.6)
    return [n for n in near if "@" in n or n in also or f"{n}@{DEFAULT_VERSION}" in all_facts()]
