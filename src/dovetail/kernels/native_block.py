"""The native core's products of block formats: rounding and multiplying in one call."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail.formats import FixedFormat, FloatFormat
from dovetail.formats.block import SCALE_MODES, PowerScaled
from dovetail.formats.rounding import NEAREST_EVEN
from dovetail.kernels import native
from dovetail.kernels.block_codes import Codes, bound, code_range, encode
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_shape import address, packing_shape, running_shape

__all__ = ["PackedBlocks", "block_mac", "holds", "pack", "quantize"]


class _Format(ctypes.Structure):
    _fields_ = (
        ("block", ctypes.c_int64),
        *(
            (name, ctypes.c_int32)
            for name in ("mode", "emax", "even_bits", "digits", "quantum", "low", "high")
        ),
        ("least", ctypes.c_int32),
        ("most", ctypes.c_int32),
        ("largest", ctypes.c_double),
    )


@dataclass(frozen=True, eq=False)
class PackedBlocks:
    """A weight's integers and scales in the order of one instruction-set level's kernels."""

    first: PowerScaled
    geometry: Geometry
    shape: tuple[int, ...]
    data: Tensor  # uint8


def holds(first: PowerScaled, second: PowerScaled) -> bool:
    """Whether the core computes products of these formats: dots fit 32 bits.

    >>> from dovetail.formats import format
    >>> holds(format("bfp(m=16, block=64)"), format("bfp(m=16, block=64)"))
    False
    """
    return native.available() and _rounds(first) and bound(first, second) < 2**31


def _rounds(fmt: PowerScaled) -> bool:
    """Whether the core itself rounds to ``fmt``."""
    element = fmt.element
    fine = isinstance(element, FixedFormat) or (
        isinstance(element, FloatFormat) and 1 <= element.mantissa <= 10
    )
    return fine and fmt.rounding == NEAREST_EVEN


def _digits(fmt: PowerScaled) -> int:
    """Bits of a code from its first one to its last, at most."""
    if isinstance(fmt.element, FloatFormat):
        return fmt.element.mantissa + 1
    return (max(map(abs, code_range(fmt))) - 1).bit_length()


def _format(fmt: PowerScaled) -> _Format:
    element = fmt.element
    assert isinstance(element, (FixedFormat, FloatFormat))
    floating = isinstance(element, FloatFormat)
    least, most = code_range(fmt)
    return _Format(
        fmt.block,
        SCALE_MODES.index(fmt.mode),
        element.emax,
        element.mantissa if isinstance(element, FloatFormat) else max(element.width - 2, 0),
        element.mantissa if floating and isinstance(element, FloatFormat) else 22,
        element.quantum,
        *fmt.exponents,
        least,
        most,
        element.max,
    )


def quantize(x: Tensor, fmt: PowerScaled) -> Codes:
    """As :func:`dovetail.kernels.block_codes.encode`, in the core where it rounds to ``fmt``."""
    if not _takes(x, fmt):
        return encode(x, fmt)
    codes, exponents = _quantized(x, fmt)
    block = min(fmt.block, x.shape[-1])
    padded = torch.nn.functional.pad(codes, (0, -x.shape[-1] % block))
    return Codes(padded.unflatten(-1, (-1, block)).float(), exponents)


def _takes(x: Tensor, fmt: PowerScaled) -> bool:
    plain = x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0
    return plain and _rounds(fmt)


def _quantized(x: Tensor, fmt: PowerScaled) -> tuple[Tensor, Tensor]:
    """Codes int16 ``[..., K]`` and exponents int32 ``[..., blocks]``."""
    if not _takes(x, fmt):
        found = encode(x, fmt)
        return found.codes.flatten(-2)[..., : x.shape[-1]].to(torch.int16), found.exponents
    length = x.shape[-1]
    rows = x.detach().contiguous()
    codes = torch.empty(x.shape, dtype=torch.int16)
    exponents = torch.empty(*x.shape[:-1], -(-length // fmt.block), dtype=torch.int32)
    native._check(
        native._loaded().dv_block_quantize(
            *(address(rows), ctypes.c_int64(x.numel() // length), ctypes.c_int64(length)),
            *(ctypes.byref(_format(fmt)), address(codes), address(exponents)),
        )
    )
    return codes, exponents


def pack(
    w: Tensor, first: PowerScaled, second: PowerScaled, geometry: Geometry, few: bool = False
) -> PackedBlocks:
    """``w`` (``[N, K]`` or ``[O, C/groups, *kernel]``) rounded to ``second`` and packed for
    inputs in ``first``; ``few``: for so few rows that reading the weight is what takes time."""
    core = native._loaded()
    taps = w.detach().flatten(2).movedim(2, 1) if geometry.spatial else w.detach()[:, None]
    # [outputs, taps, channels]: the kernels' own order follows from it
    codes, exponents = _quantized(taps if w.dtype == torch.float64 else taps.float(), second)
    shape = packing_shape(tuple(w.shape), geometry)
    codes_are = (
        *(ctypes.byref(shape), ctypes.c_int64(first.block)),
        max(map(abs, (*code_range(first), *code_range(second)))),
        max(_digits(first), _digits(second)),
        int(few),
    )
    size = core.dv_block_packed_bytes(*codes_are)
    if size < 0:
        native._check(1)
    data = torch.empty(size, dtype=torch.uint8)
    codes, exponents = codes.contiguous(), exponents.contiguous()
    native._check(core.dv_block_pack(*codes_are, address(codes), address(exponents), address(data)))
    return PackedBlocks(first, geometry, tuple(w.shape), data)


def block_mac(x: Tensor, packed: PackedBlocks, bias: Tensor | None) -> Tensor:
    """``x`` (float32) rounded to its format and multiplied with the packed weights; float32."""
    geometry = packed.geometry
    out = torch.empty(geometry.out_shape(x.shape, packed.shape))
    if out.numel() == 0:
        return out
    x = native._need("x", x, (torch.float32,))
    shape = running_shape(x, packed.shape, geometry)
    if bias is not None:
        bias = native._need("bias", bias.float(), (torch.float32,))
    native._check(
        native._loaded().dv_block_run(
            *(ctypes.byref(shape), ctypes.byref(_format(packed.first)), address(packed.data)),
            *(address(x), None if bias is None else address(bias), address(out)),
        )
    )
    return out
