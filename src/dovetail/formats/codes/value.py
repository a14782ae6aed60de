"""``Codes``: an encoded tensor, as plain bytes and what is needed to read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail.errors import DovetailError, unknown
from dovetail.formats.base import BlockFormat, Format, Same
from dovetail.formats.codes.packing import packed_size, unpack
from dovetail.formats.integer import IntFormat
from dovetail.formats.registry import format as to_format
from dovetail.formats.scaled import NVFP4

__all__ = ["TENSORS", "Codes"]

#: The fields of `Codes` that are tensors.
TENSORS = ("codes", "scales", "zero_points", "tensor_scale")

_DTYPES = {
    str(d).removeprefix("torch."): d
    for d in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
    )
}


@dataclass(frozen=True, eq=False, repr=False)
class Codes:
    """A tensor of ``shape`` and ``dtype``, encoded in ``format``.

    ``codes`` are the elements' codes in row-major order, packed without gaps (lowest bit first: two
    4-bit codes in a byte, the earlier in the low nibble; four 6-bit codes in three bytes; 16-bit
    codes little endian). ``scales``, by format:

    * BFP and MX: one byte per block, the exponent plus 127 (E8M0), 255 for a NaN block;
    * NVFP4: one UE4M3 byte per block, and ``tensor_scale`` (float32 scalar);
    * scaled blocks: the codes of the scale format, packed as ``codes`` are;
    * integers: float32, one, one per index of ``axis`` or one per group (in ``scale_shape``), and
      int32 ``zero_points`` of the same shape if affine.

    ``axis`` is where the blocks, or the channels or groups of an integer format, run (counted from
    0); None without them. All tensors but an integer format's are uint8 and flat.

    >>> from dovetail.formats.codes import encode
    >>> encode(torch.tensor([[1.0, 0.5, 7.0, -5.0]]), "mxfp4(block=4)")
    Codes(mxfp4(block=4), shape=(1, 4), axis=1, float32: 3 bytes, 6 bits per element)
    """

    codes: Tensor
    format: Format
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    axis: int | None = None
    scales: Tensor | None = None
    zero_points: Tensor | None = None
    tensor_scale: Tensor | None = None

    @property
    def numel(self) -> int:
        """How many elements the tensor has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The real size: codes, scales, zero points and tensor scale together."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    @property
    def bits_per_element(self) -> float:
        """``8 * nbytes / numel``; 0 for an empty tensor.

        >>> from dovetail.formats.codes import encode
        >>> encode(torch.ones(64, 64), "mxfp4").bits_per_element
        4.25
        """
        return 8 * self.nbytes / self.numel if self.numel else 0.0

    @property
    def scale_shape(self) -> tuple[int, ...] | None:
        """The shape of the scales: ``shape``, its axis divided by the block size, rounded up.

        >>> from dovetail.formats.codes import encode
        >>> encode(torch.ones(4, 70), "mxfp4").scale_shape
        (4, 3)
        """
        run = _run(self.format)
        if run is not None:
            assert self.axis is not None
            blocks = -(-self.shape[self.axis] // run)
            return (*self.shape[: self.axis], blocks, *self.shape[self.axis + 1 :])
        return None if self.scales is None else tuple(self.scales.shape)

    def element_codes(self) -> Tensor:
        """The elements' codes, unpacked, in ``shape``: uint8, int32 (9 to 16 bits) or int64.

        >>> from dovetail.formats.codes import encode
        >>> encode(torch.tensor([0.5, 6.0, -6.0]), "fp4_e2m1fn").element_codes()
        tensor([ 1,  7, 15], dtype=torch.uint8)
        """
        if isinstance(self.format, Same):
            raise DovetailError("'same' has no codes of its own: its bytes are the tensor's")
        return unpack(self.codes, self.format.bits, self.numel).view(self.shape)

    def scale_codes(self) -> Tensor | None:
        """The scales' codes of a block format, unpacked, in ``scale_shape``; None for others.

        >>> from dovetail.formats.codes import encode
        >>> encode(torch.tensor([0.5, 6.0, -6.0]), "mxfp4(block=2)").scale_codes()
        tensor([127, 127], dtype=torch.uint8)
        """
        shape = self.scale_shape
        if not isinstance(self.format, BlockFormat) or shape is None or self.scales is None:
            return None
        return unpack(self.scales, self.format.scale_bits, math.prod(shape)).view(shape)

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name, without those that the format has not.

        >>> from dovetail.formats.codes import encode
        >>> list(encode(torch.ones(2, 16), "nvfp4").tensors())
        ['codes', 'scales', 'tensor_scale']
        """
        return {n: t for n in TENSORS if (t := getattr(self, n)) is not None}

    def metadata(self) -> dict[str, Any]:
        """Everything that is no tensor, as JSON has it.

        >>> from dovetail.formats.codes import encode
        >>> encode(torch.ones(2, 16), "bfp(m=4, block=16)").metadata()
        {'format': 'bfp(m=4, block=16)', 'shape': [2, 16], 'dtype': 'float32', 'axis': 1}
        """
        return {
            "format": self.format.spelling,
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "axis": self.axis,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain tensors and JSON values; :meth:`from_dict` reads them back.

        >>> from dovetail.formats.codes import encode
        >>> sorted(encode(torch.ones(4), "fp8_e4m3fn").to_dict())
        ['axis', 'codes', 'dtype', 'format', 'shape']
        """
        return {**self.metadata(), **self.tensors()}

    @staticmethod
    def from_dict(saved: Mapping[str, Any]) -> Codes:
        """The codes that :meth:`to_dict` took apart; what does not fit together is refused.

        >>> from dovetail.formats.codes import encode
        >>> Codes.from_dict(encode(torch.ones(4), "fp8_e4m3fn").to_dict()).nbytes
        4
        """
        for key in ("codes", "format", "shape", "dtype"):
            if key not in saved:
                raise DovetailError(f"encoded tensor: '{key}' is missing")
        for key in saved:
            if key not in (*TENSORS, "format", "shape", "dtype", "axis"):
                raise unknown("key of an encoded tensor", str(key), TENSORS)
        if saved["dtype"] not in _DTYPES:
            raise unknown("dtype", str(saved["dtype"]), _DTYPES)
        return Codes(
            format=to_format(saved["format"]),
            shape=tuple(int(size) for size in saved["shape"]),
            dtype=_DTYPES[saved["dtype"]],
            axis=saved.get("axis"),
            **{name: saved[name] for name in TENSORS if name in saved},
        )

    def __post_init__(self) -> None:
        fmt = self.format
        ranged = isinstance(fmt, (BlockFormat, IntFormat))
        wanted = {
            "scales": ranged,
            "zero_points": isinstance(fmt, IntFormat) and fmt.affine,
            "tensor_scale": isinstance(fmt, NVFP4),
        }
        for name, needed in wanted.items():
            if needed != (getattr(self, name) is not None):
                state = "missing" if needed else "not part of this format"
                raise DovetailError(f"encoded in '{fmt}': {name} is {state}")
        if self.axis is None and _run(fmt) is not None:
            raise DovetailError(f"encoded in '{fmt}': the axis of its blocks is missing")
        if self.axis is not None and not 0 <= self.axis < len(self.shape):
            raise DovetailError(
                f"encoded in '{fmt}': axis={self.axis} is not an axis of shape {self.shape}"
            )
        width = self.dtype.itemsize * 8 if isinstance(fmt, Same) else fmt.bits
        self._check_size("codes", self.codes, packed_size(self.numel, width))
        if isinstance(fmt, BlockFormat) and self.scales is not None:
            blocks = math.prod(self.scale_shape or ())
            self._check_size("scales", self.scales, packed_size(blocks, fmt.scale_bits))
        elif self.scales is not None:
            self._check_grid(self.scales)

    def _check_grid(self, scales: Tensor) -> None:
        """The scales and zero points of an integer format."""
        if _run(self.format) is not None:
            shape = self.scale_shape
        else:
            shape = () if self.axis is None or not scales.dim() else (self.shape[self.axis],)
        for name, found in (("scales", scales), ("zero points", self.zero_points)):
            if found is not None and tuple(found.shape) != shape:
                raise DovetailError(
                    f"encoded in '{self.format}': {tuple(found.shape)} {name} for axis "
                    f"{self.axis} of shape {self.shape}"
                )

    def _check_size(self, name: str, packed: Tensor, size: int) -> None:
        if packed.dtype != torch.uint8 or tuple(packed.shape) != (size,):
            raise DovetailError(
                f"encoded in '{self.format}': the {name} of shape {self.shape} are {size} bytes "
                f"(uint8), not {tuple(packed.shape)} {packed.dtype}: damaged or truncated"
            )

    def __repr__(self) -> str:
        axis = "" if self.axis is None else f"axis={self.axis}, "
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"Codes({self.format}, shape={self.shape}, {axis}{dtype}: {self.nbytes} bytes, "
            f"{self.bits_per_element:.4g} bits per element)"
        )


def _run(fmt: Format) -> int | None:
    """How many neighbours share a scale, in formats in which runs of an axis do."""
    if isinstance(fmt, BlockFormat):
        return fmt.block
    return fmt.group if isinstance(fmt, IntFormat) else None
