"""What a multiplier costs in silicon, with the source of the figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dovetail.multipliers.base import Multiplier

__all__ = ["Cost", "relative_energy"]


@dataclass(frozen=True)
class Cost:
    """Hardware figures of one multiplier; ``source`` says who measured or estimated them."""

    power_mw: float
    area_um2: float
    delay_ns: float
    source: str

    @property
    def energy_pj(self) -> float:
        """Energy of one product, power times delay (1 mW * 1 ns = 1 pJ).

        >>> Cost(power_mw=0.5, area_um2=700.0, delay_ns=1.5, source="example").energy_pj
        0.75
        """
        return self.power_mw * self.delay_ns

    def to_dict(self) -> dict[str, Any]:
        """All figures by name, units in the names.

        >>> sorted(Cost(0.5, 700.0, 1.5, "example").to_dict())
        ['area_um2', 'delay_ns', 'energy_pj', 'power_mw', 'source']
        """
        return {"energy_pj": self.energy_pj, **asdict(self)}


def relative_energy(multiplier: Multiplier) -> float | None:
    """Energy of one product over that of the exact circuit of the same width; None if unknown.

    >>> from dovetail.multipliers import multiplier
    >>> round(relative_energy(multiplier("mul8s_1L2H@v1.1")), 2)
    0.65
    >>> relative_energy(multiplier("exact(bits=4)"))
    1.0
    """
    from dovetail.multipliers.exact import Exact

    if isinstance(multiplier, Exact):
        return 1.0
    own = multiplier.cost
    whole = Exact(multiplier.bits, multiplier.signed).cost
    return None if own is None or whole is None else own.energy_pj / whole.energy_pj
