"""The ops as emulation calls them: where nobody could tell, without torch's dispatch."""

from __future__ import annotations

from torch import Tensor

from dovetail._eager import is_only_recorded, is_unwatched
from dovetail.kernels import library
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.recorded import RecordedLayer, RecordedMatmul

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
    y = _at_once(x, weight, bias, xs, xz, ws, wz, LINEAR, arithmetic)
    if y is None:
        y = library.linear(x, weight, bias, xs, xz, ws, wz, arithmetic)
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
    y = _at_once(x, weight, bias, xs, xz, ws, wz, geometry, arithmetic)
    if y is None:
        window = library.conv_window(geometry)
        y = library.conv(x, weight, bias, xs, xz, ws, wz, *window, arithmetic)
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
    given = x, weight, xs, xz, ws, wz, arithmetic
    y: Tensor
    if is_unwatched(x, weight, xs, ws):
        y = library.computed_matmul(*given)
    elif is_only_recorded(x, weight, xs, ws):
        y = RecordedMatmul.apply(*given)  # type: ignore[no-untyped-call]
    else:
        y = library.matmul(*given)
    return y


def _at_once(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    xs: Tensor | None,
    xz: Tensor | None,
    ws: Tensor | None,
    wz: Tensor | None,
    geometry: Geometry,
    arithmetic: str,
) -> Tensor | None:
    """The layer, ``None`` where its op is to be dispatched."""
    given = x, weight, bias, xs, xz, ws, wz, geometry, arithmetic
    if is_unwatched(x, weight, bias, xs, ws):
        return library.computed_layer(*given)
    if is_only_recorded(x, weight, bias, xs, ws):
        y: Tensor = RecordedLayer.apply(*given)  # type: ignore[no-untyped-call]
        return y
    return None
