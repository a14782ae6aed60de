"""Which operation, and which source of error in it, costs what."""

from dovetail.analysis.attribution.attribute import attribute, first_order
from dovetail.analysis.attribution.result import Attribution
from dovetail.analysis.attribution.rows import SOURCES, AttributionRow, Histogram, OpSummary

__all__ = [
    "SOURCES",
    "Attribution",
    "AttributionRow",
    "Histogram",
    "OpSummary",
    "attribute",
    "first_order",
]
