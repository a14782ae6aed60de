"""Every expansion, registered by being imported."""

from __future__ import annotations

from dovetail.compiler.nodes.aten import expansion as aten

__all__ = ["aten"]
