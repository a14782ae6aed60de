"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.compiler.onnx.operators.windows import ends, padded
from dovetail.compiler.onnx.registry import operator
from dovetail.errors import DovetailError

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
Ints = Sequence[int] | None


@operator("Conv", weights=(1, 2))
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Tensor:
    """In one to three dimensions."""
    n = _dimensions(x)
    stride, dilation = list(strides or [1] * n), list(dilations or [1] * n)
    pairs = ends(
        x.shape[2:],
        weight.shape[2:],
        auto_pad=auto_pad,
        pads=pads,
        strides=stride,
        dilations=dilation,
    )
    x, padding = padded(x, pairs)
    return _CONVOLUTIONS[n](x, weight, bias, stride, padding, dilation, group)


def _dimensions(x: Tensor) -> int:
    n = x.dim() - 2
    if n not in _CONVOLUTIONS:
        raise DovetailError(f"a convolution in {n} dimensions; supported are 1 to 3")
    return n


@operator("ConvTranspose", weights=(1, 2))
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    output_padding: Ints = None,
    output_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Tensor:
    """In one to three dimensions: whole, then cut to what the padding leaves."""
    n = _dimensions(x)
    stride, dilation = list(strides or [1] * n), list(dilations or [1] * n)
    extra = list(output_padding or [0] * n)
    spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    whole = [(size - 1) * s + k for size, s, k in zip(x.shape[2:], stride, spans, strict=True)]
    if output_shape is None and auto_pad.startswith("SAME"):
        output_shape = [size * s for size, s in zip(x.shape[2:], stride, strict=True)]
    if output_shape is not None:
        totals = [w + e - o for w, e, o in zip(whole, extra, output_shape[-n:], strict=True)]
        less = [total // 2 for total in totals]
        more = [total - half for total, half in zip(totals, less, strict=True)]
        pairs = list(
            zip(*((less, more) if auto_pad == "SAME_UPPER" else (more, less)), strict=True)
        )
    else:
        pairs = ends(x.shape[2:], spans, pads=pads, strides=stride, dilations=dilation)
    function = _TRANSPOSED[n]
    if all(a == b >= 0 for a, b in pairs) and all(
        e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)
    ):
        padding = [a for a, _ in pairs]
        return function(x, weight, bias, stride, padding, extra, group, dilation)
    y = function(x, weight, None, stride, 0, 0, group, dilation)
    cut = [
        end
        for (a, b), e in zip(reversed(pairs), reversed(extra), strict=True)
        for end in (-a, e - b)
    ]
    y = F.pad(y, cut)
    return y if bias is None else y + bias.reshape(-1, *[1] * n)


@operator("ConvInteger", 10)
def conv_integer(
    x: Tensor,
    weight: Tensor,
    x_zero: Tensor | None = None,
    weight_zero: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Tensor:
    """Of codes less their zero points, in int32."""
    return integer_conv(
        x, weight, x_zero, weight_zero,
        auto_pad=auto_pad, dilations=dilations, group=group, pads=pads, strides=strides,
    )  # fmt: skip


def integer_conv(
    x: Tensor,
    weight: Tensor,
    x_zero: Tensor | None,
    weight_zero: Tensor | None,
    *,
    auto_pad: str,
    dilations: Ints,
    group: int,
    pads: Ints,
    strides: Ints,
) -> Tensor:
    """Exact: products of bytes are summed in float64, which holds every int32."""
    a = x.double() - (0 if x_zero is None else x_zero.double())
    w = weight.double()
    if weight_zero is not None:
        w = w - weight_zero.double().reshape(-1, *[1] * (weight.dim() - 1))
    y = conv(a, w, auto_pad=auto_pad, dilations=dilations, group=group, pads=pads, strides=strides)
    return y.to(torch.int32)


@operator("DeformConv", 19, weights=(1, 3))
def deform_conv(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    offset_group: int = 1,
    pads: Ints = None,
    strides: Ints = None,
) -> Tensor:
    """In two dimensions: every tap is sampled where its offset says, and weighted by the mask."""
    if x.dim() != 4:
        raise DovetailError(f"a deformable convolution in {x.dim() - 2} dimensions; supported is 2")
    batch, channels, height, width = x.shape
    taps = weight.shape[2] * weight.shape[3]
    rows, columns = offset.shape[2:]
    stride, dilation = strides or [1, 1], dilations or [1, 1]
    start = pads or [0, 0, 0, 0]
    grid = offset.reshape(batch * offset_group, taps, 2, rows, columns)
    kernel = torch.meshgrid(
        torch.arange(weight.shape[2], device=x.device) * dilation[0] - start[0],
        torch.arange(weight.shape[3], device=x.device) * dilation[1] - start[1],
        indexing="ij",
    )
    y = grid[:, :, 0] + kernel[0].reshape(-1, 1, 1)
    y = y + (torch.arange(rows, device=x.device) * stride[0]).reshape(-1, 1)
    z = grid[:, :, 1] + kernel[1].reshape(-1, 1, 1)
    z = z + torch.arange(columns, device=x.device) * stride[1]
    places = torch.stack(((2 * z + 1) / width - 1, (2 * y + 1) / height - 1), -1)
    part = x.reshape(batch * offset_group, channels // offset_group, height, width)
    seen = F.grid_sample(
        part, places.flatten(1, 2).to(x.dtype), "bilinear", "zeros", align_corners=False
    ).reshape(batch, offset_group, -1, taps, rows * columns)
    if mask is not None:
        seen = seen * mask.reshape(batch, offset_group, 1, taps, rows * columns)
    columns_ = seen.reshape(batch, group, channels // group * taps, rows * columns)
    matrix = weight.reshape(group, weight.shape[0] // group, -1)
    out = (matrix @ columns_).reshape(batch, weight.shape[0], rows, columns)
    return out if bias is None else out + bias.reshape(-1, 1, 1)


@operator("Col2Im", 18, static=(1, 2))
def col2im(
    x: Tensor,
    image: Sequence[int],
    block: Sequence[int],
    *,
    dilations: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Tensor:
    """Columns of blocks, summed into an image: the adjoint of gathering them."""
    n = len(block)
    stride, dilation, pad = strides or [1] * n, dilations or [1] * n, pads or [0] * 2 * n
    sizes = [i + pad[d] + pad[n + d] for d, i in enumerate(image)]
    counts = [(s - dilation[d] * (block[d] - 1) - 1) // stride[d] + 1 for d, s in enumerate(sizes)]
    flat = torch.zeros((), dtype=torch.long, device=x.device)
    for d in range(n):
        taps = torch.arange(block[d], device=x.device) * dilation[d]
        at = taps.unsqueeze(1) + torch.arange(counts[d], device=x.device) * stride[d]
        shape = [1] * 2 * n
        shape[d], shape[n + d] = at.shape
        flat = flat * sizes[d] + at.reshape(shape)
    taps_ = flat.numel()
    values = x.reshape(x.shape[0], -1, taps_)
    total = 1
    for size in sizes:
        total *= size
    result = x.new_zeros(*values.shape[:2], total)
    result = result.index_add(2, flat.reshape(-1), values).reshape(*values.shape[:2], *sizes)
    cut = [end for d in reversed(range(n)) for end in (-pad[d], -pad[n + d])]
    return F.pad(result, cut)
