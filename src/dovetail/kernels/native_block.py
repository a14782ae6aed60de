"""The native core's products of block formats: rounding and multiplying in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail.formats import NVFP4, FixedFormat, FloatFormat
from dovetail.formats.bits import layout_of
from dovetail.formats.block import SCALE_MODES, PowerScaled
from dovetail.formats.blocks import blocks_of
from dovetail.formats.realise.ratios import tensor_scale
from dovetail.formats.rounding import NEAREST_EVEN
from dovetail.kernels import native
from dovetail.kernels.block_codes import Blocked, Codes, encode
from dovetail.kernels.block_pairs import Pair, code_range, scale_format
from dovetail.kernels.block_torch import rows_of
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_shape import address, packing_shape, running_shape

__all__ = [
    "BlockCodes",
    "BlockRule",
    "PackedBlocks",
    "block_mac",
    "codes_of",
    "format_of",
    "holds",
    "pack",
    "quantize",
    "rounds",
]

_POWER, _QUOTIENT, _TWO_LEVEL, _NONE = range(4)


class BlockRule(ctypes.Structure):
    """``dv_block_format``."""

    _fields_ = (
        ("block", ctypes.c_int64),
        *(
            (name, ctypes.c_int32)
            for name in (
                *("scale", "mode", "emax", "even_bits", "digits", "quantum", "low", "high"),
                *("split", "scale_digits", "scale_quantum"),
            )
        ),
        *((name, ctypes.c_float) for name in ("scale_flush", "scale_most", "whole")),
        *((name, ctypes.c_double) for name in ("least", "most", "largest")),
    )


class BlockCodes(ctypes.Structure):
    """``dv_block_codes``."""

    _fields_ = (
        ("block", ctypes.c_int64),
        ("most", ctypes.c_double),
        *((name, ctypes.c_int32) for name in ("digits", "scale_bits", "few", "values", "split")),
    )


@dataclass(frozen=True, eq=False)
class PackedBlocks:
    """A weight's integers and scales in the order of one instruction-set level's kernels."""

    pair: Pair
    geometry: Geometry
    shape: tuple[int, ...]
    data: Tensor  # uint8
    whole: Tensor | None  # NVFP4's scale of the tensor


def holds(pair: Pair) -> bool:
    """Whether the core computes products of these formats: it rounds to the first one, if need be.

    >>> from dovetail.formats import format
    >>> from dovetail.kernels.block_pairs import pair_of
    >>> holds(pair_of(format("bfp(m=8, block=64, rounding=ToOdd)"), format("mxint8")))
    False
    """
    return native.available() and (_is_cast(pair.first) or rounds(pair.first))


def _is_cast(fmt: Blocked) -> bool:
    return fmt.rounding.is_stochastic


def rounds(fmt: Blocked) -> bool:
    """Whether the core itself rounds to ``fmt``.

    >>> from dovetail.formats import format
    >>> rounds(format("mxfp4")), rounds(format("mxint8(rounding=ToOdd)"))
    (True, False)
    """
    element = fmt.element
    if isinstance(element, FixedFormat):
        fine = max(map(abs, code_range(fmt))) < 2**22
    else:
        assert isinstance(element, FloatFormat)
        fine = 1 <= element.mantissa <= 10 and element.subnormals
    if not isinstance(fmt, PowerScaled):
        scale = scale_format(fmt)
        fine = fine and 1 <= scale.mantissa <= 22 and scale.zero and scale.rounding == NEAREST_EVEN
    return fine and fmt.rounding == NEAREST_EVEN


def _digits(fmt: Blocked) -> int:
    """Bits of a code from its first one to its last, at most."""
    if isinstance(fmt.element, FloatFormat):
        return fmt.element.mantissa + 1
    return (max(map(abs, code_range(fmt))) - 1).bit_length()


def _scale_bits(fmt: Blocked) -> int:
    return 1 if isinstance(fmt, PowerScaled) else scale_format(fmt).mantissa + 1


def format_of(fmt: Blocked, split: int = 0, whole: Tensor | None = None) -> BlockRule:
    """How values become codes of ``fmt``, with so many low bits of a code apart.

    >>> from dovetail.formats import format
    >>> format_of(format("mxint8")).block
    32
    """
    element = fmt.element
    assert isinstance(element, (FixedFormat, FloatFormat))
    floating = isinstance(element, FloatFormat)
    least, most = code_range(fmt)
    mode, exponents, flush, scale = 0, (0, 0), 0.0, None
    if isinstance(fmt, PowerScaled):
        kind, mode, exponents = _POWER, SCALE_MODES.index(fmt.mode), fmt.exponents
    else:
        kind, scale = _TWO_LEVEL if isinstance(fmt, NVFP4) else _QUOTIENT, scale_format(fmt)
        flush = 0.0 if scale.subnormals else scale.smallest_normal
    return BlockRule(
        fmt.block,
        _NONE if _is_cast(fmt) else kind,
        mode,
        element.emax,
        element.mantissa if isinstance(element, FloatFormat) else max(element.width - 2, 0),
        element.mantissa if floating and isinstance(element, FloatFormat) else 22,
        element.quantum,
        *exponents,
        split,
        *((0, 0) if scale is None else (scale.mantissa, scale.quantum)),
        *(flush, 0.0 if scale is None else scale.max, 1.0 if whole is None else float(whole)),
        *(least, most, element.max),
    )


def _whole(x: Tensor, fmt: Blocked, rows: Callable[[], Tensor]) -> Tensor | None:
    """NVFP4's scale of the tensor ``x``; ``rows`` is it with its blocks along the last axis."""
    if not isinstance(fmt, NVFP4):
        return None
    low, high = torch.aminmax(x.detach())
    top = torch.maximum(-low, high)
    if not bool(torch.isfinite(top)):
        blocks = blocks_of(rows(), fmt.block, -1, fmt)
        largest = blocks.largest(blocks.split(rows()), layout_of(x.dtype))
        top = torch.where(torch.isfinite(largest), largest, 0.0).amax()
    return tensor_scale(top)


def quantize(x: Tensor, fmt: Blocked) -> Codes:
    """As :func:`dovetail.kernels.block_codes.encode`, in the core where it rounds to ``fmt``.

    Blocks of zeros have the scale 1.
    """
    plain = x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0
    if not plain or _is_cast(fmt) or not rounds(fmt):
        return encode(x, fmt)
    length, whole = x.shape[-1], _whole(x, fmt, lambda: x)
    rows = x.detach().contiguous()
    codes = torch.empty(x.shape)
    scales = torch.empty(*x.shape[:-1], -(-length // fmt.block))
    native._check(
        native._loaded().dv_block_quantize(
            *(address(rows), ctypes.c_int64(x.numel() // length), ctypes.c_int64(length)),
            *(ctypes.byref(format_of(fmt, whole=whole)), address(codes), address(scales)),
        )
    )
    block = min(fmt.block, length)
    padded = torch.nn.functional.pad(codes, (0, -length % block))
    return Codes(padded.unflatten(-1, (-1, block)), scales.double(), whole)


def codes_of(pair: Pair, few: bool) -> BlockCodes:
    """What is multiplied, of rows that may be ``few``.

    >>> from dovetail.formats import format
    >>> from dovetail.kernels.block_pairs import pair_of
    >>> codes_of(pair_of(format("mxint8"), format("mxint8")), few=False).most
    127.0
    """
    first, second = pair.first, pair.second
    return BlockCodes(
        pair.dot,
        max(map(abs, (*code_range(first), *code_range(second)))),
        max(_digits(first), _digits(second)),
        max(_scale_bits(first), _scale_bits(second)),
        few,
        pair.cast_already,
        pair.split > 0,
    )


def pack(w: Tensor, pair: Pair, geometry: Geometry, few: bool = False) -> PackedBlocks:
    """``w`` (``[N, K]`` or ``[O, C/groups, *kernel]``) rounded to the second format and packed for
    inputs in the first; ``few``: for so few rows that reading the weight is what takes time."""
    core, second = native._loaded(), pair.second
    taps = w.detach().flatten(2).movedim(2, 1) if geometry.spatial else w.detach()[:, None]
    # [outputs, taps, channels]: the kernels' own order follows from it
    found = quantize(taps if w.dtype == torch.float64 else taps.float(), second)
    length = taps.shape[-1]
    codes = found.codes.flatten(-2)[..., :length].float().contiguous()
    of = torch.arange(0, length, pair.dot) // second.block
    scales = found.scales.index_select(-1, of).float().contiguous()
    shape = packing_shape(tuple(w.shape), geometry)
    what = codes_of(pair, few)
    size = core.dv_block_packed_bytes(ctypes.byref(shape), ctypes.byref(what))
    if size < 0:
        native._check(1)
    data = torch.empty(size, dtype=torch.uint8)
    native._check(
        core.dv_block_pack(
            *(ctypes.byref(shape), ctypes.byref(what)),
            *(address(codes), address(scales), address(data)),
        )
    )
    return PackedBlocks(pair, geometry, tuple(w.shape), data, found.whole)


def block_mac(x: Tensor, packed: PackedBlocks, bias: Tensor | None) -> Tensor:
    """``x`` (float32) rounded to its format and multiplied with the packed weights; float32."""
    geometry, pair = packed.geometry, packed.pair
    out = torch.empty(geometry.out_shape(x.shape, packed.shape))
    if out.numel() == 0:
        return out
    x = native._need("x", x, (torch.float32,))
    whole = _whole(x, pair.first, lambda: rows_of(x, geometry))
    shape = running_shape(x, packed.shape, geometry)
    if bias is not None:
        bias = native._need("bias", bias.float(), (torch.float32,))
    factor = 1.0 if packed.whole is None else packed.whole
    factor = factor if whole is None else whole * factor
    native._check(
        native._loaded().dv_block_run(
            *(ctypes.byref(shape), ctypes.byref(format_of(pair.first, pair.split, whole))),
            *(address(packed.data), address(x), None if bias is None else address(bias)),
            *(ctypes.c_float(float(factor)), address(out)),
        )
    )
    return out
