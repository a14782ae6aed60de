"""Multiplier values: what product one multiply computes, how wrong it is, and what it costs."""

from __future__ import annotations

from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.catalog import catalog
from dovetail.multipliers.cost import Cost, relative_energy
from dovetail.multipliers.designs import design
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.facts import CircuitFacts
from dovetail.multipliers.family import Family
from dovetail.multipliers.floating import FloatMultiplier, float_multiplier
from dovetail.multipliers.metrics import ErrorMetrics, SumErrors
from dovetail.multipliers.models import Fidelity, Model
from dovetail.multipliers.registry import (
    any_multiplier,
    families,
    multiplier,
    register_multiplier,
)

__all__ = [
    "CircuitFacts",
    "Cost",
    "ErrorMetrics",
    "Factors",
    "Family",
    "Fidelity",
    "FloatMultiplier",
    "Model",
    "Multiplier",
    "SumErrors",
    "any_multiplier",
    "catalog",
    "design",
    "families",
    "float_multiplier",
    "multiplier",
    "register_multiplier",
    "relative_energy",
]
