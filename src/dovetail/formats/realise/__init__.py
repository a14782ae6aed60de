"""The cast in pure torch: what eager mode falls back on, and what compile and export see.

Bit-equal to :mod:`dovetail.formats.reference`; :func:`round_values` is the one door.
"""

from dovetail.formats.realise.door import in_torch, register_cast, round_values
from dovetail.formats.realise.inside import inside
from dovetail.formats.realise.integers import register_integers, round_integers
from dovetail.formats.realise.powers import shared_exponents
from dovetail.formats.realise.ranged import register_ranged, round_by_range, round_groups
from dovetail.formats.realise.report import Report
from dovetail.formats.realise.stochastic import is_stochastic
from dovetail.formats.realise.whole import register_whole, whole_casts

__all__ = [
    "Report",
    "in_torch",
    "inside",
    "is_stochastic",
    "register_cast",
    "register_integers",
    "register_ranged",
    "register_whole",
    "round_by_range",
    "round_groups",
    "round_integers",
    "round_values",
    "shared_exponents",
    "whole_casts",
]
