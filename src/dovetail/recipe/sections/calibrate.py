"""What may stand under `calibrate`."""

from __future__ import annotations

from pydantic import Field

from dovetail.recipe.sections.base import Spec

__all__ = ["CalibrateSpec"]


class CalibrateSpec(Spec):
    """How the ranges of static formats are found."""

    batches: int = Field(4, ge=1, description="batches of the calibration split to look at")
    observer: str = Field("minmax", description="how a range follows from what was seen")
