"""Operators: every torch function but the products that a rule can reach."""

from __future__ import annotations

from typing import Any

from torch import nn

from dovetail.emulation.operators import activations, elementwise
from dovetail.emulation.operators.base import SKIPPED, OpCall, Operator

__all__ = ["MODULES", "OPERATORS", "SKIPPED", "OpCall", "Operator"]

#: How to read every function of an operator.
OPERATORS: dict[Any, Operator] = {**activations.OPERATORS, **elementwise.OPERATORS}

#: Modules that exist for one operator: a table prints it by the module's path alone.
MODULES: dict[type[nn.Module], str] = {**activations.MODULES}
