"""Padding of windows: the same for convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

__all__ = ["ends", "padded", "torch_pads"]


def ends(
    sizes: Sequence[int],
    kernel: Sequence[int],
    *,
    auto_pad: str = "NOTSET",
    pads: Sequence[int] | None = None,
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[tuple[int, int]]:
    """What is added before and after each axis.

    >>> ends([5], [3], auto_pad="SAME_UPPER", strides=[2], dilations=[1])
    [(1, 1)]
    """
    n = len(kernel)
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        given = list(pads) if pads and auto_pad == "NOTSET" else [0] * 2 * n
        return list(zip(given[:n], given[n:], strict=True))
    found: list[tuple[int, int]] = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        steps = -(-size // stride)
        total = max((steps - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        found.append((small, large) if auto_pad == "SAME_UPPER" else (large, small))
    return found


def torch_pads(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """In the order of `F.pad`: the last axis first."""
    return [end for pair in reversed(pairs) for end in pair]


def padded(
    x: Tensor, pairs: Sequence[tuple[int, int]], value: float = 0.0
) -> tuple[Tensor, list[int]]:
    """The input with what differs between its two ends, and the padding that is left to do."""
    if all(before == after for before, after in pairs):
        return x, [before for before, _ in pairs]
    return F.pad(x, torch_pads(pairs), value=value), [0] * len(pairs)
