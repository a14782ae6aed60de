"""Operators: every torch function but the products that a rule can reach."""

from __future__ import annotations

from typing import Any

from torch import nn

from dovetail.emulation.operators import activations, elementwise, lookups, modules, norms, pools
from dovetail.emulation.operators.base import OpCall, Operator, slot_of
from dovetail.emulation.operators.modules import (
    WholeModule,
    class_kind,
    follows_torch,
    norm_offset,
    register_operator,
)

__all__ = [
    "MODULES",
    "OPERATORS",
    "UNCOVERED",
    "WHOLE_MODULES",
    "OpCall",
    "Operator",
    "WholeModule",
    "class_kind",
    "follows_torch",
    "norm_offset",
    "register_operator",
    "slot_of",
]

_FILES = (activations, elementwise, lookups, norms, pools)

#: How to read every function of an operator.
OPERATORS: dict[Any, Operator] = {f: o for file in _FILES for f, o in file.OPERATORS.items()}

#: Modules that exist for one operator: a table prints it by the module's path alone.
MODULES: dict[type[nn.Module], str] = {
    module: kind for file in _FILES for module, kind in file.MODULES.items()
}

#: How to read a module that is one operator of its own.
WHOLE_MODULES = WholeModule(modules.TAKEN)

#: Functions that do what an operator does, but that no rule reaches: a plan lists them.
UNCOVERED: dict[Any, str] = pools.UNCOVERED
