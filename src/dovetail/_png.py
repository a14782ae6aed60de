"""Pictures as PNG files, without another package."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

__all__ = ["png"]


def png(
    pixels: npt.NDArray[np.uint8], palette: bytes | None = None, alpha: bytes | None = None
) -> bytes:
    """An image ``[height, width]`` of bytes: shades of grey, or places in a palette of 256 colours
    (three bytes each), with their opacity.

    >>> png(np.zeros((1, 1), np.uint8))[1:4]
    b'PNG'
    """
    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if palette is None else 3, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"tRNS", alpha)]
    chunks += [(b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    parts = [_chunk(kind, data) for kind, data in chunks if data is not None]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
