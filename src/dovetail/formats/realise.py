"""The cast in pure torch: what eager mode falls back on, and what compile and export see.

`round_values` is the one door. In eager mode a faster implementation, registered with
`register_cast`, is taken where it says that it can; while torch.compile or torch.export is tracing,
the operations below are, which fuse. Both are bit-equal to :mod:`dovetail.formats.reference`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import BlockFormat, ElementFormat, Format, Same
from dovetail.formats.bits import BINARY64, Layout, layout_of, round_pattern
from dovetail.formats.block import PowerScaled
from dovetail.formats.blocks import Blocks, blocks_of
from dovetail.formats.codebook import CodebookFormat, book_of
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.philox import random_words
from dovetail.formats.scaled import E4M3, NVFP4, ScaledBlock
from dovetail.formats.shaped import Shaped

__all__ = [
    "in_torch",
    "inside",
    "is_stochastic",
    "register_cast",
    "round_values",
    "shared_exponents",
]

Kernel = Callable[[Tensor, Format, int, "Tensor | None", "Tensor | None"], "Tensor | None"]
_kernels: list[Kernel] = []


def register_cast(kernel: Kernel) -> Kernel:
    """Decorator: a faster ``(x, fmt, axis, seed, out) -> Tensor``, or None where it does not apply.

    It gets what :func:`round_values` gets, in eager mode only, the latest registered first.
    """
    _kernels.insert(0, kernel)
    return kernel


def round_values(
    x: Tensor,
    fmt: Format,
    axis: int = -1,
    seed: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """``x`` rounded to ``fmt``: a tensor of the same shape and dtype; no gradient.

    ``axis`` is where blocks run unless the format has its own; ``seed`` (int64 scalar tensor) is
    needed by stochastic rounding. ``x`` is floating point. The result is written to ``out`` if
    given: ``x`` itself, or memory that ``x`` does not share.

    >>> from dovetail.formats import format
    >>> round_values(torch.tensor([464.1, -1.03]), format("fp8_e4m3"))
    tensor([448., -1.])
    """
    if not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active():
        for kernel in _kernels:
            y = kernel(x, fmt, axis, seed, out)
            if y is not None:
                return y
    y = in_torch(x, fmt, axis, seed)
    return y if out is None else out.copy_(y)


def in_torch(x: Tensor, fmt: Format, axis: int = -1, seed: Tensor | None = None) -> Tensor:
    """:func:`round_values` by the operations of this module."""
    if isinstance(fmt, Same) or x.numel() == 0:
        return x.clone()
    words = None
    if is_stochastic(fmt):
        if seed is None:
            raise DovetailError(f"'{fmt}' rounds stochastically and needs a seed")
        words = random_words(x.shape, seed)
    if isinstance(fmt, BlockFormat):
        y = _in_blocks(x, fmt, axis, words)
        if x.dtype not in (torch.float32, torch.float64):
            top = torch.finfo(x.dtype).max
            y = y.clamp(-top, top)
        return y.to(x.dtype)
    assert isinstance(fmt, ElementFormat)
    layout = layout_of(x.dtype)
    return _round(x.to(layout.dtype), fmt, words).to(x.dtype)


def is_stochastic(fmt: Format) -> bool:
    """Whether a cast to ``fmt`` needs a seed.

    >>> is_stochastic(FloatFormat(4, 3))
    False
    """
    if isinstance(fmt, Shaped):
        return is_stochastic(fmt.inner) or (fmt.before is not None and is_stochastic(fmt.before))
    return isinstance(fmt, (ElementFormat, BlockFormat)) and fmt.rounding.is_stochastic


def _round(x: Tensor, fmt: ElementFormat, words: Tensor | None = None) -> Tensor:
    """float32 or float64 values, each rounded by itself."""
    if isinstance(fmt, FloatFormat):
        return _round_float(x, fmt, words)
    if isinstance(fmt, FixedFormat):
        return _round_fixed(x, fmt, words)
    assert isinstance(fmt, CodebookFormat)
    return _round_by_book(x, fmt, words)


def _parts(x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Magnitude pattern and sign of each value."""
    pattern = x.view(layout.integer)
    return pattern & layout.magnitude, pattern < 0


def _signed(u: Tensor, negative: Tensor, layout: Layout) -> Tensor:
    """The values of magnitude patterns with signs."""
    return (u | (negative.to(u.dtype) << (layout.width - 1))).view(layout.dtype)


def _round_float(x: Tensor, fmt: FloatFormat, words: Tensor | None) -> Tensor:
    layout = layout_of(x.dtype)
    first = (1 if fmt.zero else 0) - fmt.offset
    narrow = layout is not BINARY64
    if narrow and not (first - fmt.mantissa <= 127 and fmt.smallest_subnormal >= 2.0**-149):
        return _round_float(x.double(), fmt, words).to(x.dtype)
    u, negative = _parts(x, layout)
    if fmt.magnitude:
        negative = torch.zeros_like(negative)
    is_nan, is_inf = u > layout.infinity, u == layout.infinity
    y = round_pattern(
        u,
        negative,
        layout,
        fmt.rounding,
        first - fmt.mantissa,
        fmt.mantissa,
        tiny=first < 1 - layout.bias,
        parity=fmt.offset if fmt.mantissa == 0 else None,
        words=words,
    )
    if not fmt.subnormals:
        y = torch.where(u < layout.pattern(2.0**first), 0, y)
    if not fmt.zero:
        y = torch.where(u < layout.pattern(fmt.min), layout.pattern(fmt.min), y)
    y = _saturate(y, is_inf, negative, fmt, layout)
    if not fmt.signed:
        y = torch.where(negative, layout.pattern(fmt.min), y)
        negative = torch.zeros_like(negative)
    elif not fmt.has_negative_zero:
        negative = negative & (y > 0)
    return torch.where(is_nan, x, _signed(y, negative, layout))


def _saturate(
    y: Tensor, is_inf: Tensor, negative: Tensor, fmt: FloatFormat, layout: Layout
) -> Tensor:
    """What becomes of magnitudes beyond the largest finite one, and of infinities."""
    top = layout.pattern(fmt.max)
    nan = layout.infinity + (1 << (layout.fraction - 1))
    beyond = layout.infinity if fmt.has_inf else nan if fmt.has_nan else top
    if fmt.saturation == "SatFinite":
        return torch.where(is_inf, top, y.clamp(max=top))
    name = fmt.rounding.name
    if fmt.saturation == "SatPropagate" or name in ("TowardZero", "ToOdd"):
        return torch.where(is_inf, beyond, y.clamp(max=top))
    over = is_inf | (y > top)
    if name in ("TowardPositive", "TowardNegative"):
        inward = negative if name == "TowardPositive" else ~negative
        y = torch.where(inward, y.clamp(max=top), y)
        over = is_inf | (y > top)
    return torch.where(over, beyond, y)


def _round_fixed(x: Tensor, fmt: FixedFormat, words: Tensor | None) -> Tensor:
    layout = layout_of(x.dtype)
    u, negative = _parts(x, layout)
    y = round_pattern(u, negative, layout, fmt.rounding, fmt.quantum, None, words=words)
    rounded = _signed(y, negative, layout)
    rounded = torch.where(u >= layout.infinity, x, rounded)
    if fmt.clamp:
        rounded = rounded.clamp(fmt.min, fmt.max)
    return rounded + 0.0  # -0 + 0 is +0


def _round_by_book(x: Tensor, fmt: CodebookFormat, words: Tensor | None) -> Tensor:
    values, boundaries, exact = _book_on(fmt, x.device)
    wide, mirrored = x.double(), fmt.mirrored
    v = wide.abs() if mirrored else wide
    negative = wide < 0
    v = v.clamp(values[0], values[-1])
    i = torch.searchsorted(values, v.contiguous(), right=True).clamp(1, values.numel() - 1) - 1
    low, high, boundary = values[i], values[i + 1], boundaries[i]
    away = torch.ones_like(negative) if mirrored else v >= 0
    tie = (exact[i] > 0) & (v == boundary)
    name, odd = fmt.rounding.name, (i & 1) == 1
    if name == "NearestTiesToEven":
        up = (v > boundary) | (tie & odd)
    elif name == "NearestTiesToAway":
        up = (v > boundary) | (tie & away)
    elif name == "TowardZero":
        up = ~away
    elif name in ("TowardPositive", "TowardNegative"):
        up = (away != negative) if name == "TowardPositive" else (away == negative)
    elif name == "ToOdd":
        up = ~odd
    else:
        assert words is not None
        up = _drawn(v, low, high, away, fmt.rounding.bits, words)
    y = torch.where(v == high, high, torch.where((v > low) & up, high, low))
    if mirrored:
        y = torch.where(negative & (y > 0), -y if fmt.signed else 0.0, y)
    return torch.where(wide.isnan(), wide, y).to(x.dtype)


def _drawn(v: Tensor, low: Tensor, high: Tensor, away: Tensor, bits: int, words: Tensor) -> Tensor:
    """Stochastic rounding: the share is a quotient of float64 differences, the rest is exact."""
    share = (v - low) / (high - low)
    share = torch.where(away, share, 1.0 - share)
    one = 1 << (bits + 1)
    outward = torch.floor(share * one) + 2 * (words >> (32 - bits)) + 1 >= one
    return outward == away


_books: dict[tuple[CodebookFormat, torch.device], Tensor] = {}


def _book_on(fmt: CodebookFormat, device: torch.device) -> Tensor:
    """Values, boundaries and exactness (0 or 1) of a code book as the rows of a float64 tensor."""
    key = (fmt, device)
    if key not in _books:
        book = book_of(fmt)
        rows = (book.values, (*book.boundaries, 0.0), (*map(float, book.exact), 0.0))
        made = torch.tensor(rows, dtype=torch.float64, device=device)
        if type(made) is not Tensor:  # a fake one, while a graph is being traced
            return made
        _books[key] = made
    return _books[key]


def _largest_of(fmt: ElementFormat) -> float:
    """``fmt.max``, which in a graph is a constant."""
    return fmt.max


def _bound_of(fmt: ElementFormat | BlockFormat, end: int) -> float:
    """One of the bounds of a format or of its elements, which in a graph is a constant."""
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    return element.bounds[end]


_CONSTANTS: tuple[Any, ...] = (_book_on, _largest_of, _bound_of)
for function in _CONSTANTS:
    # What torch.compiler.assume_constant_result does, which itself would import torch._dynamo here:
    # a second of every start, and torch.manual_seed is wrapped.
    function._dynamo_marked_constant = True


def _blocks_of(x: Tensor, fmt: BlockFormat, axis: int) -> Blocks:
    return blocks_of(x, fmt.block, axis if fmt.axis is None else fmt.axis, fmt)


def _in_blocks(x: Tensor, fmt: BlockFormat, axis: int, words: Tensor | None) -> Tensor:
    """float32 (float64 for float64) values of a tensor rounded block by block."""
    blocks = _blocks_of(x, fmt, axis)
    layout = layout_of(x.dtype)
    split = blocks.split(x.to(layout.dtype))
    noise = None if words is None else blocks.split(words)
    if isinstance(fmt, PowerScaled):
        y = _round_power_scaled(split, fmt, blocks, layout, noise)
    else:
        assert isinstance(fmt, (ScaledBlock, NVFP4))
        y = _round_scaled(split, fmt, blocks, layout, noise)
    return blocks.join(y)


def shared_exponents(x: Tensor, fmt: PowerScaled, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Each block's scale exponent (int32 or int64), and whether the block holds no NaN or infinity.

    Both have ``x``'s shape with ``axis`` divided by the block size, rounded up.

    >>> from dovetail.formats import format
    >>> shared_exponents(torch.tensor([1.0, 7.0, 0.1, 0.0]), format("mxfp4(block=2)"))[0]
    tensor([ 0, -6], dtype=torch.int32)
    """
    blocks, layout = _blocks_of(x, fmt, axis), layout_of(x.dtype)
    split = blocks.split(x.to(layout.dtype))
    exponent, finite = _exponents(blocks.largest(split, layout), fmt)
    exponent = exponent.to(layout.integer)
    return exponent.squeeze(blocks.axis + 1), finite.squeeze(blocks.axis + 1)


def _exponents(largest: Tensor, fmt: PowerScaled) -> tuple[Tensor, Tensor]:
    """Scale exponents of blocks from their largest magnitudes, and where those are finite.

    In float64, where every float32 and float16 number is normal.
    """
    u, f = largest.double().view(torch.int64), BINARY64.fraction
    finite = u < BINARY64.infinity
    element = fmt.element
    if fmt.mode == "EVEN":
        u = u + (1 << (f - 1 - mantissa_bits(element)))
    exponent, below = (u >> f) - BINARY64.bias, u & ((1 << f) - 1)
    if fmt.mode == "CEIL":
        exponent = exponent + (below > 0).to(exponent.dtype)
    elif fmt.mode == "RCEIL":
        top = BINARY64.pattern(element.max) & ((1 << f) - 1)
        exponent = exponent + (below > top).to(exponent.dtype)
    return (exponent - element.emax).clamp(*fmt.exponents), finite


def mantissa_bits(element: ElementFormat) -> int:
    """Bits behind the leading one of the largest element."""
    assert isinstance(element, (FloatFormat, FixedFormat))
    return element.mantissa if isinstance(element, FloatFormat) else element.width - 2


def _round_power_scaled(
    x: Tensor, fmt: PowerScaled, blocks: Blocks, layout: Layout, words: Tensor | None
) -> Tensor:
    element = fmt.element
    assert isinstance(element, (FloatFormat, FixedFormat))
    u, negative = _parts(x, layout)
    exponent, finite = _exponents(blocks.largest(x, layout), fmt)
    exponent = exponent.to(layout.integer)
    y = round_pattern(
        u,
        negative,
        layout,
        fmt.rounding,
        exponent + element.quantum,
        element.mantissa if isinstance(element, FloatFormat) else None,
        tiny=layout is not BINARY64,
        parity=_parity(element, exponent),
        words=words,
    )
    top = _scaled_pattern(element.max, exponent, layout)
    if isinstance(element, FixedFormat) and not element.symmetric:
        top = torch.where(negative, _scaled_pattern(-element.min, exponent, layout), top)
    y = torch.minimum(y, top)
    if not element.has_negative_zero:
        negative = negative & (y > 0)
    return torch.where(finite, _signed(y, negative, layout), torch.nan)


def _parity(element: FloatFormat | FixedFormat, exponent: Tensor) -> Tensor | None:
    """The exponent bias of elements without mantissa bits, seen before they are scaled."""
    if isinstance(element, FloatFormat) and element.mantissa == 0:
        return element.offset - exponent
    return None


def _scaled_pattern(value: float, exponent: Tensor, layout: Layout) -> Tensor:
    """The pattern of ``value * 2**exponent``, at most the largest finite number.

    The exponent of the product reaches the subnormals only at ``2**-127`` in float32.
    """
    scaled = (exponent << layout.fraction) + layout.pattern(value)
    scaled = scaled.clamp(max=layout.infinity - 1)
    if layout is BINARY64 or value >= 2.0:
        return scaled
    return torch.where(exponent == -127, layout.pattern(value * 2.0**-127), scaled)


def _ratios(
    x: Tensor, fmt: ScaledBlock | NVFP4, blocks: Blocks, layout: Layout
) -> tuple[Tensor, Tensor, Tensor]:
    """What is rounded to elements, what the elements are multiplied by, where blocks are finite."""
    largest = blocks.largest(x, layout)
    finite = largest < torch.inf
    largest = torch.where(finite, largest, 0.0)
    if isinstance(fmt, ScaledBlock):
        step = _round(_quotient(largest, _largest_of(fmt.element)), fmt.scale)
        return x / torch.where(step == 0, 1.0, step), step, finite
    largest = largest.clamp(max=torch.finfo(torch.float32).max).float()
    g = _quotient(largest.amax(), 448.0 * 6.0)
    g = torch.where(largest.amax() == 0, 1.0, g.clamp(min=2.0**-120))
    s = _round((_quotient(largest, 6.0) / g).clamp(2.0**-6, 448.0), E4M3)
    return x * (torch.reciprocal(g) / s).to(x.dtype), (g * s).to(x.dtype), finite


def _quotient(x: Tensor, divisor: float) -> Tensor:
    """True division: by a Python number, some devices multiply with a rounded reciprocal."""
    return x / torch.full_like(x, divisor)


def _round_scaled(
    x: Tensor,
    fmt: ScaledBlock | NVFP4,
    blocks: Blocks,
    layout: Layout,
    words: Tensor | None,
) -> Tensor:
    ratio, step, finite = _ratios(x, fmt, blocks, layout)
    y = torch.where(step == 0, 0.0, _round(ratio, fmt.element, words) * step)
    top = torch.finfo(layout.dtype).max
    return torch.where(finite, y.clamp(-top, top), torch.nan)


def inside(x: Tensor, fmt: Format, axis: int = -1) -> Tensor:
    """Where rounding ``x`` to nearest stays within the format's finite range: what does not clip.

    >>> inside(torch.tensor([1.0, 500.0, torch.nan]), FloatFormat(4, 3, specials="fn"))
    tensor([ True, False, False])
    """
    if isinstance(fmt, Same) or x.numel() == 0:
        return torch.ones_like(x, dtype=torch.bool)
    wide = x.to(layout_of(x.dtype).dtype)
    if isinstance(fmt, ElementFormat):
        wide = wide.abs() if isinstance(fmt, FloatFormat) and fmt.magnitude else wide
        low, high = _bound_of(fmt, 0), _bound_of(fmt, 1)
        return (wide > low) & (wide < high)
    assert isinstance(fmt, BlockFormat)
    blocks, layout = _blocks_of(x, fmt, axis), layout_of(x.dtype)
    split = blocks.split(wide)
    low, high = _bound_of(fmt, 0), _bound_of(fmt, 1)
    if isinstance(fmt, PowerScaled):
        exponent, finite = _exponents(blocks.largest(split, layout), fmt)
        ratio = torch.ldexp(split.double(), -exponent)
    else:
        assert isinstance(fmt, (ScaledBlock, NVFP4))
        ratio, _, finite = _ratios(split, fmt, blocks, layout)
    return blocks.join(finite & (ratio > low) & (ratio < high))
