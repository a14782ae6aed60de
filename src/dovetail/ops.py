"""The lowest public level: integer codes in, exact integer sums out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dovetail.accumulators import Accumulator, accumulator
from dovetail.errors import DovetailError
from dovetail.kernels.accumulated_mac import plan_accumulated
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.realisation import Operands, sum_dtype
from dovetail.multipliers import Multiplier
from dovetail.multipliers import multiplier as to_multiplier

__all__ = ["conv_codes", "linear_codes"]


def linear_codes(
    a: Tensor, w: Tensor, mul: str | Multiplier, acc: str | Accumulator | None = None
) -> Tensor:
    """``y[..., n] = sum_k f(a[..., k], w[n, k])``, exactly.

    ``a [..., K]`` and ``w [N, K]`` hold operand values in any integer dtype: int8 for a signed
    8-bit multiplier, uint8 for an unsigned one, wider types for wider operands. The result is
    int32 where ``K * max|f| < 2**31`` is proven, else int64. ``acc`` is the accumulator that the
    products pass through; with a floating-point one the result is float32, or float64 where the
    register is wider.

    >>> a, w = torch.tensor([[3, -2]], dtype=torch.int8), torch.tensor([[5, 7]], dtype=torch.int8)
    >>> linear_codes(a, w, "exact")
    tensor([[1]], dtype=torch.int32)
    >>> linear_codes(a, w, "mul8s_1L2H@v1.1")
    tensor([[-4]], dtype=torch.int32)
    """
    _check_tensors(a=a, w=w)
    return _codes(a, w, mul, acc, LINEAR, 0)


def conv_codes(
    a: Tensor,
    w: Tensor,
    mul: str | Multiplier,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | Sequence[tuple[int, int]] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    pad_code: int = 0,
    acc: str | Accumulator | None = None,
) -> Tensor:
    """The convolution of codes ``a [B, C, *spatial]`` with ``w [O, C/groups, *kernel]``, exactly.

    One to three spatial dimensions. Padded pixels hold the operand value ``pad_code`` and pass the
    multiplier like any other; ``padding`` may give a (low, high) pair per dimension. Dtypes and the
    result are as in :func:`linear_codes`.

    >>> a = torch.ones(1, 1, 3, dtype=torch.int8)
    >>> conv_codes(a, torch.tensor([[[1, 2, 3]]], dtype=torch.int8), "exact", padding=1)
    tensor([[[5, 6, 3]]], dtype=torch.int32)
    """
    _check_tensors(a=a, w=w)
    spatial = a.dim() - 2
    if not 1 <= spatial <= 3:
        raise DovetailError(
            "conv_codes takes a [B, C, *spatial] with 1 to 3 spatial dimensions, "
            f"not {tuple(a.shape)}"
        )
    geometry = Geometry.conv(
        spatial, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return _codes(a, w, mul, acc, geometry, pad_code)


def _check_tensors(**operands: object) -> None:
    for name, codes in operands.items():
        if not isinstance(codes, Tensor):
            raise DovetailError(
                f"{name} is a tensor of integer operand values, not {codes!r:.60}: use "
                "torch.tensor(...)"
            )


def _codes(
    a: Tensor,
    w: Tensor,
    mul: str | Multiplier,
    acc: str | Accumulator | None,
    geometry: Geometry,
    pad_code: int,
) -> Tensor:
    m = to_multiplier(mul)
    register = None if acc is None else accumulator(acc)
    geometry.out_shape(a.shape, w.shape)
    if a.device != w.device:
        raise DovetailError(f"operands live on different devices: a on {a.device}, w on {w.device}")
    first, second = _range("a", a, m, 0, pad_code), _range("w", w, m, 1, 0)
    if not first[0] <= pad_code <= first[1]:
        raise DovetailError(f"pad_code={pad_code} is not an operand value: {first[0]}..{first[1]}")
    operands = Operands(first, second, a.device.type)
    reduction = geometry.reduction(w.shape)
    kernel = plan_accumulated(m, operands, register, reduction)
    out = kernel.sums(a, kernel.pack(w, geometry), geometry, pad_code)
    bound = operands.bound(m) * reduction
    return out.to(sum_dtype(bound) if register is None else register.result_dtype(bound))


def _range(name: str, codes: Tensor, mul: Multiplier, operand: int, also: int) -> tuple[int, int]:
    """The operand's code range, after checking that every value lies within the multiplier's.

    Without a width to go by it is that of the values and of ``also``.
    """
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise DovetailError(f"{name} holds integer operand values, not {codes.dtype}")
    if mul.bits is None and codes.dtype in (torch.int8, torch.uint8):
        info = torch.iinfo(codes.dtype)
        return info.min, info.max
    low, high = (int(codes.amin()), int(codes.amax())) if codes.numel() else (0, 0)
    if mul.bits is None:
        return min(low, also), max(high, also)
    width = mul.bits[operand]
    least, most = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if mul.signed else (0, 2**width - 1)
    if low < least or high > most:
        raise DovetailError(
            f"{name} holds {low if low < least else high}, but {mul} takes {least}..{most}"
        )
    return least, most
