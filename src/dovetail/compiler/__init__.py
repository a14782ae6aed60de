"""The compiler: PyTorch graphs as SDFGs, in which every level down to a scalar can be seen.

DaCe is imported by the modules that emit, not by this package: see ``dovetail.compiler.engine``.
"""

from __future__ import annotations

from dovetail.compiler.entry import compile, module
from dovetail.compiler.module import CompiledModule
from dovetail.compiler.passes import Pass, Pipeline, default_passes

__all__ = ["CompiledModule", "Pass", "Pipeline", "compile", "default_passes", "module"]
