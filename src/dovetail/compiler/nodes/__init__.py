"""Library nodes: heavy and emulated operators of an SDFG, each with several expansions.

``NODES`` maps the name of an operator, as FX prints it, to how it is put into a state.
"""

from __future__ import annotations

from dovetail.compiler.nodes.base import Call, NodeSpec, Operand
from dovetail.compiler.nodes.catalog import EAGER, NODES
from dovetail.compiler.nodes.users import implement

__all__ = ["EAGER", "NODES", "Call", "NodeSpec", "Operand", "implement"]
