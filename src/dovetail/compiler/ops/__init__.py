"""One small function per ATen operator: what it is made of, in groups."""

from __future__ import annotations

from dovetail.compiler.ops import creation, pointwise, reductions, views
from dovetail.compiler.ops.builder import Builder, Value
from dovetail.compiler.ops.table import LOWERINGS, lowers

__all__ = [
    "LOWERINGS",
    "Builder",
    "Value",
    "creation",
    "lowers",
    "pointwise",
    "reductions",
    "views",
]
