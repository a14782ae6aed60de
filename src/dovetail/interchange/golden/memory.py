"""Memory images of integer codes, as Verilog's ``$readmemh`` reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from dovetail.errors import DovetailError

__all__ = ["read_image", "write_image"]


def write_image(path: Path, codes: npt.NDArray[np.integer], bits: int, what: str) -> None:
    """One code to a line, in row-major order, two's complement in ``bits`` bits, hexadecimal.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_image(Path(folder) / "a.hex", np.array([5, -1, -128]), 8, "three codes")
    ...     print((Path(folder) / "a.hex").read_text())
    // three codes
    05
    ff
    80
    <BLANKLINE>
    """
    digits, mask = -(-bits // 4), (1 << bits) - 1
    words = (codes.ravel().astype(np.int64) & mask if bits < 64 else codes.ravel()).tolist()
    lines = [f"{word & mask:0{digits}x}" for word in words]
    path.write_text("\n".join([f"// {what}", *lines, ""]), encoding="ascii")


def read_image(path: Path, bits: int, signed: bool) -> npt.NDArray[np.int64]:
    """The codes of an image, flat.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_image(Path(folder) / "a.hex", np.array([5, -1]), 4, "two codes")
    ...     read_image(Path(folder) / "a.hex", 4, signed=True)
    array([ 5, -1])
    """
    if not path.is_file():
        raise DovetailError(f"no file '{path}'")
    lines = path.read_text(encoding="ascii").splitlines()
    words = [int(line, 16) for line in lines if line and not line.startswith("//")]
    half = 1 << (bits - 1)
    return np.array([w - 2 * half if signed and w >= half else w for w in words], dtype=np.int64)
