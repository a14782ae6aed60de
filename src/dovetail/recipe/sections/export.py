"""What may stand under `export`: the forms that the finished network is written in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from dovetail.recipe.sections.base import Spec

__all__ = ["ExportSpec"]


class ExportSpec(Spec):
    """One form, by the name of its exporter, with the exporter's options; see `dv.export`."""

    to: str = Field(min_length=1, description="onnx, golden, or one that a plugin registers")
    batch: int | None = Field(
        None, ge=1, description="samples that the network is written for; else data.batch_size"
    )
    verify: bool = Field(True, description="compare what is written with the emulation")
    tolerance: float | None = Field(
        None, ge=0, description="onnx: of the network's outputs, relative to the largest"
    )
    vectors: int | None = Field(None, ge=1, description="golden: samples of the test data")
    hexadecimal: bool | None = Field(None, description="golden: memory images, too")
    options: Mapping[str, Any] = Field({}, description="of an exporter that a plugin registers")

    def given(self) -> dict[str, Any]:
        """The options that the exporter is given.

        >>> ExportSpec(to="golden", vectors=32).given()
        {'vectors': 32}
        """
        names = ("tolerance", "vectors", "hexadecimal")
        own = {name: value for name in names if (value := getattr(self, name)) is not None}
        return own | dict(self.options)
