"""The default pipeline over groups and over SDFGs: every step has a name."""

from __future__ import annotations

from dovetail.compiler.passes.pipeline import STAGES, Pass, Pipeline, chosen, default_passes

__all__ = ["STAGES", "Pass", "Pipeline", "chosen", "default_passes"]
