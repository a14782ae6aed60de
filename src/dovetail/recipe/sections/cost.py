"""What may stand under `cost`."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from dovetail.recipe.sections.base import Spec

__all__ = ["CostSpec"]


class CostSpec(Spec):
    """Which tables say what operations and memories cost; see `dv.cost`."""

    tables: Sequence[str] = Field(
        (), description="built-in names or YAML files, the first that knows a figure wins"
    )
    node: float | None = Field(None, gt=0, description="in nm, where no table is named")
