"""What was written, and how near it is to the model it was written from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dovetail._plain import plain

__all__ = ["Compared", "Exported"]


@dataclass(frozen=True)
class Compared:
    """One comparison with the emulation: ``different`` of ``elements`` numbers had other bits.

    ``largest`` is the largest difference, relative to the largest finite number that was expected.
    """

    name: str
    kind: str
    elements: int
    different: int
    largest: float = 0.0

    @property
    def is_equal(self) -> bool:
        """Whether every bit was the same (all NaNs count as one)."""
        return self.different == 0

    def __str__(self) -> str:
        if self.is_equal:
            return f"{self.name} ({self.kind}): {self.elements:,} numbers, the same bits"
        return (
            f"{self.name} ({self.kind}): {self.different:,} of {self.elements:,} numbers differ, "
            f"by up to {self.largest:.2g} of the largest"
        )


@dataclass(frozen=True)
class Exported:
    """What `dv.export` wrote. ``compared`` is empty where nothing was verified; ``facts`` are what
    the exporter tells besides, ready for JSON."""

    to: str
    path: Path
    files: tuple[Path, ...]
    compared: tuple[Compared, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Whether it was compared, and every bit was the same."""
        return bool(self.compared) and all(each.is_equal for each in self.compared)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; file names are relative to the folder that holds ``path``.

        >>> Exported("onnx", Path("out/m.onnx"), (Path("out/m.onnx"),)).to_dict()["files"]
        ['m.onnx']
        """
        rows = [
            {
                "name": each.name,
                "kind": each.kind,
                "elements": each.elements,
                "different": each.different,
                "largest": each.largest if math.isfinite(each.largest) else str(each.largest),
            }
            for each in self.compared
        ]
        files = [str(file.relative_to(self.path.parent)) for file in self.files]
        facts: dict[str, Any] = plain(dict(self.facts))
        return {"to": self.to, "path": self.path.name, "files": files, "compared": rows, **facts}

    def __str__(self) -> str:
        told = [f"{key}: {value}" for key, value in self.facts.items()]
        checked = [str(each) for each in self.compared] or ["not compared with the emulation"]
        return "\n".join([f"{self.to}: {self.path}", *told, *checked])
