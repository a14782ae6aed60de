"""The ops as emulation calls them: where nobody could tell, without torch's dispatch."""

from __future__ import annotations

from torch import Tensor

from dovetail._eager import is_unwatched
from dovetail.kernels import library
from dovetail.kernels.geometry import LINEAR, Geometry

__all__ = ["conv", "linear", "matmul"]


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    xs: Tensor | None,
    xz: Tensor | None,
    ws: Tensor | None,
    wz: Tensor | None,
    arithmetic: str,
) -> Tensor:
    """``dovetail::linear``."""
    if is_unwatched(x, weight, bias, xs, ws):
        return library.computed_layer(x, weight, bias, xs, xz, ws, wz, LINEAR, arithmetic)
    y: Tensor = library.linear(x, weight, bias, xs, xz, ws, wz, arithmetic)
    return y


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    xs: Tensor | None,
    xz: Tensor | None,
    ws: Tensor | None,
    wz: Tensor | None,
    geometry: Geometry,
    arithmetic: str,
) -> Tensor:
    """``dovetail::conv``."""
    if is_unwatched(x, weight, bias, xs, ws):
        return library.computed_layer(x, weight, bias, xs, xz, ws, wz, geometry, arithmetic)
    y: Tensor = library.conv(
        x, weight, bias, xs, xz, ws, wz, *library.conv_window(geometry), arithmetic
    )
    return y


def matmul(
    x: Tensor,
    weight: Tensor,
    xs: Tensor | None,
    xz: Tensor | None,
    ws: Tensor | None,
    wz: Tensor | None,
    arithmetic: str,
) -> Tensor:
    """``dovetail::matmul``."""
    op = library.computed_matmul if is_unwatched(x, weight, xs, ws) else library.matmul
    y: Tensor = op(x, weight, xs, xz, ws, wz, arithmetic)
    return y
