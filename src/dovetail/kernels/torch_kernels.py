"""Realisations in plain torch: they need no compiler and run on every device.

``torch-factored`` turns an exact integer factorisation into floating-point products that are exact
because every partial sum is an integer below 2**24 (float32) or 2**53 (float64), and beyond that
into int64 ones. ``torch-products`` looks each product up, or evaluates the multiplier, and sums;
it holds for every multiplier.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.kernels.geometry import Geometry
from dovetail.kernels.realisation import MacKernel, Operands, register_realisation, sum_dtype
from dovetail.multipliers import Multiplier

__all__ = ["TorchFactored", "TorchProducts", "pad_codes"]

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CHUNK = 1 << 22  # products held at once by torch-products


def pad_codes(a: Tensor, geometry: Geometry, pad_code: int) -> Tensor:
    """Codes ``[B, C, *spatial]`` with the padded pixels written out."""
    flat = [p for pair in reversed(geometry.padding) for p in pair]
    return F.pad(a, flat, value=pad_code) if any(flat) else a


def _factors_fit(mul: Multiplier, operands: Operands) -> bool:
    del operands
    return mul.bits is None or mul.factors() is not None


def _factored_cost(mul: Multiplier, operands: Operands) -> float:
    del operands
    factors = None if mul.bits is None else mul.factors()
    return 1.5 + 3.0 * (1 if factors is None else factors.rank)


@register_realisation("mac", when=_factors_fit, cost=_factored_cost, name="torch-factored")
class TorchFactored(MacKernel):
    """``sum_r first_r(a) * second_r(w)`` as ordinary float products of exact integers."""

    name = "torch-factored"

    def __init__(self, mul: Multiplier, operands: Operands) -> None:
        self.mul, self.operands = mul, operands
        factors = None if mul.bits is None else mul.factors()
        self.first = self.second = None
        self.bound = operands.bound(mul)
        if factors is not None:
            self.first, self.second = torch.tensor(factors.first), torch.tensor(factors.second)
            peaks = self.first.abs().amax(1) * self.second.abs().amax(1)
            # Partial sums over r may exceed the sum of the products themselves.
            self.bound = max(self.bound, int(peaks.sum()))

    def _expand(self, codes: Tensor, table: Tensor | None, dtype: torch.dtype) -> Tensor:
        """``[r, *codes.shape]``: each factor of every code, in ``dtype``."""
        if table is None:
            return codes.to(dtype)[None]
        index = codes.to(torch.int64) & (table.shape[1] - 1)  # two's-complement byte
        return table.to(codes.device, dtype)[:, index]

    def _dtype(self, k: int, device: torch.device) -> torch.dtype:
        if self.bound * k >= 2**53:
            return torch.int64
        # Accelerators may compute float32 products in TF32, or convolve by a transform: not exact.
        small = self.bound * k < 2**24 and device.type == "cpu"
        return torch.float32 if small else torch.float64

    def pack(self, w: Tensor, geometry: Geometry) -> Tensor:
        return self._expand(w, self.second, self._dtype(geometry.reduction(w.shape), w.device))

    def sums(self, a: Tensor, packed: Tensor, geometry: Geometry, pad_code: int) -> Tensor:
        shape = geometry.out_shape(a.shape, packed.shape[1:])
        codes = a if geometry.spatial == 0 else pad_codes(a, geometry, pad_code)
        total = torch.zeros(shape, dtype=packed.dtype, device=a.device)
        for x, w in zip(self._expand(codes, self.first, packed.dtype), packed, strict=True):
            if geometry.spatial == 0:
                total += F.linear(x, w)
            elif total.numel():
                total += _convolved(x, w, geometry)
        return total.to(sum_dtype(self.operands.bound(self.mul) * prod(packed.shape[2:])))


@register_realisation("mac", when=lambda *_: True, cost=lambda *_: 300.0, name="torch-products")
class TorchProducts(MacKernel):
    """Every product by itself, from the table or the multiplier's definition, then summed."""

    name = "torch-products"

    def __init__(self, mul: Multiplier, operands: Operands) -> None:
        self.mul, self.operands = mul, operands
        self.table = mul.table() if mul.bits is not None and sum(mul.bits) <= 16 else None

    def pack(self, w: Tensor, geometry: Geometry) -> Tensor:
        del geometry
        return w

    def sums(self, a: Tensor, packed: Tensor, geometry: Geometry, pad_code: int) -> Tensor:
        shape = geometry.out_shape(a.shape, packed.shape)
        dtype = sum_dtype(self.operands.bound(self.mul) * geometry.reduction(packed.shape))
        if geometry.spatial == 0:
            rows = a.reshape(prod(a.shape[:-1]), a.shape[-1])
            return self._linear(rows, packed).reshape(shape).to(dtype)
        windows = _windows(pad_codes(a, geometry, pad_code), packed.shape[2:], geometry)
        weights = _per_group(packed, geometry)
        per_group = [self._linear(windows[g], weights[g]) for g in range(geometry.groups)]
        return _as_image(torch.cat(per_group, dim=-1), shape).to(dtype)

    def _linear(self, a: Tensor, w: Tensor) -> Tensor:
        out = torch.zeros(a.shape[0], w.shape[0], dtype=torch.int64, device=a.device)
        step = max(1, _CHUNK // max(1, w.numel()))
        for start in range(0, a.shape[0], step):
            rows = slice(start, start + step)
            out[rows] = self._products(a[rows, None, :], w[None]).sum(-1, dtype=torch.int64)
        return out

    def _products(self, a: Tensor, w: Tensor) -> Tensor:
        if self.table is None:
            values = self.mul(a.cpu().numpy(), w.cpu().numpy())
            return torch.as_tensor(values, device=a.device)
        rows, columns = self.table.shape
        index = (a.to(torch.int64) & (rows - 1)) * columns + (w.to(torch.int64) & (columns - 1))
        return self.table.to(a.device).flatten()[index]


def _convolved(x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    """The convolution of padded ``x``; torch convolves no integers, so those are gathered."""
    if x.is_floating_point():
        conv = _CONV[geometry.spatial]
        return conv(x, w, None, geometry.stride, 0, geometry.dilation, geometry.groups)
    sums = _windows(x, w.shape[2:], geometry) @ _per_group(w, geometry).mT
    shape = Geometry.conv(
        geometry.spatial,
        stride=geometry.stride,
        dilation=geometry.dilation,
        groups=geometry.groups,
    ).out_shape(x.shape, w.shape)
    return _as_image(torch.cat(list(sums), dim=-1), shape)


def _per_group(w: Tensor, geometry: Geometry) -> Tensor:
    """``[groups, O/groups, C/groups * taps]``."""
    return w.reshape(geometry.groups, w.shape[0] // geometry.groups, prod(w.shape[1:]))


def _as_image(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``[B * pixels, O]`` as ``[B, O, *pixels]``."""
    return rows.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()


def _windows(a: Tensor, kernel: torch.Size | tuple[int, ...], geometry: Geometry) -> Tensor:
    """``[groups, B * pixels, C/groups * taps]``: the operands of every output, gathered."""
    view = a
    for axis, (k, s, d) in enumerate(
        zip(kernel, geometry.stride, geometry.dilation, strict=True), start=2
    ):
        view = view.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    batch, channels, *out = view.shape[: 2 + geometry.spatial]
    view = view.movedim(1, 1 + geometry.spatial)  # [B, *out, C, *kernel]
    grouped = view.reshape(
        batch * prod(out), geometry.groups, (channels // geometry.groups) * prod(kernel)
    )
    return grouped.movedim(1, 0)
