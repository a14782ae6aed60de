"""Padding of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.compiler.onnx.operators.widened import widened
from dovetail.compiler.onnx.registry import operator
from dovetail.errors import unknown


@operator("Pad", 2)
def pad2(x: Tensor, *, mode: str = "constant", pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Sizes and value as attributes."""
    return pad(x, pads, value, mode=mode)


@operator("Pad", 11, static=(1, 2, 3))
@widened
def pad(
    x: Tensor,
    pads: Sequence[int],
    value: Any = None,
    axes: Sequence[int] | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """Before and after each axis; less than nothing cuts."""
    axes = [axis % x.dim() for axis in axes] if axes is not None else list(range(x.dim()))
    pairs = {axis: (pads[i], pads[len(axes) + i]) for i, axis in enumerate(axes)}
    if mode == "constant":
        fill = value[0] if isinstance(value, list) else value
        ends = [end for axis in reversed(range(x.dim())) for end in pairs.get(axis, (0, 0))]
        return F.pad(x, ends, value=fill or 0)
    if mode not in _SOURCES:
        raise unknown("padding mode", mode, ["constant", *_SOURCES])
    for axis, (before, after) in pairs.items():
        places = torch.arange(-before, x.shape[axis] + after, device=x.device)
        x = x.index_select(axis, _SOURCES[mode](places, x.shape[axis]))
    return x


def _reflected(places: Tensor, size: int) -> Tensor:
    period = max(2 * (size - 1), 1)
    at = places % period
    return torch.where(at < size, at, period - at)


_SOURCES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "reflect": _reflected,
    "edge": lambda places, size: places.clamp(0, size - 1),
    "wrap": lambda places, size: places % size,
}
