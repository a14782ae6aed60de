"""What was written: the real size of every tensor, beside its size in float32."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["SizeReport", "StoredTensor"]


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in a file: ``nbytes`` as stored, scales included.

    ``format`` is its spelling, or None where the tensor was stored as it is; ``float32_bytes`` is
    its size in float32 (its own size if it holds no floating-point numbers); ``same_as`` names the
    tensor that it shares its storage with, and then it takes no bytes of its own.
    """

    name: str
    format: str | None
    shape: tuple[int, ...]
    nbytes: int
    float32_bytes: int
    same_as: str | None = None


@dataclass(frozen=True)
class SizeReport:
    """The sizes of all tensors of a file, and of the file itself.

    >>> report = SizeReport((StoredTensor("w", "mxfp4", (8, 32), 136, 1024),), 400)
    >>> report.nbytes, report.float32_bytes, round(report.ratio, 2)
    (136, 1024, 7.53)
    """

    tensors: tuple[StoredTensor, ...]
    file_bytes: int

    def __iter__(self) -> Iterator[StoredTensor]:
        return iter(self.tensors)

    @property
    def nbytes(self) -> int:
        """All tensors together, without the file's header."""
        return sum(t.nbytes for t in self.tensors)

    @property
    def float32_bytes(self) -> int:
        """The same tensors in float32."""
        return sum(t.float32_bytes for t in self.tensors)

    @property
    def ratio(self) -> float:
        """How many times smaller than float32; 1 for an empty file."""
        return self.float32_bytes / self.nbytes if self.nbytes else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON.

        >>> SizeReport((), 16).to_dict()["file_bytes"]
        16
        """
        return {
            "tensors": [{**vars(t), "shape": list(t.shape)} for t in self.tensors],
            "nbytes": self.nbytes,
            "float32_bytes": self.float32_bytes,
            "file_bytes": self.file_bytes,
        }

    def table(self, width: int = 100) -> str:
        """A table of tensors, ``width`` characters wide.

        >>> report = SizeReport((StoredTensor("w", "mxfp4", (8, 32), 136, 1024),), 400)
        >>> print(report.table())
        tensor  format  shape   bytes  in float32
        w       mxfp4   8 x 32    136       1,024
        total                     136       1,024
        7.53 times smaller than float32; the file has 400 bytes
        """
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("tensor", "format", "shape"):
            table.add_column(name, overflow="fold")
        for name in ("bytes", "in float32"):
            table.add_column(name, justify="right")
        for t in self.tensors:
            kind = f"same as {t.same_as}" if t.same_as else t.format or "as it is"
            shape = " x ".join(map(str, t.shape)) or "scalar"
            table.add_row(t.name, kind, shape, f"{t.nbytes:,}", f"{t.float32_bytes:,}")
        table.add_row("total", "", "", f"{self.nbytes:,}", f"{self.float32_bytes:,}")
        out = io.StringIO()
        Console(file=out, width=width, color_system=None).print(table)
        lines = [line.rstrip() for line in out.getvalue().splitlines()]
        last = (
            f"{self.ratio:.2f} times smaller than float32; the file has {self.file_bytes:,} bytes"
        )
        return "\n".join([*lines, last])

    def __str__(self) -> str:
        return self.table()
