"""Every expansion, registered by being imported."""

from __future__ import annotations

from dovetail.compiler.nodes.aten import expansion as aten
from dovetail.compiler.nodes.native import expansion as native
from dovetail.compiler.nodes.pure import expansion as pure
from dovetail.compiler.nodes.users_expansion import known

__all__ = ["aten", "known", "native", "pure"]
