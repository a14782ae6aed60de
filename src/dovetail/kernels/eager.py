"""The ops as emulation calls them: where nobody could tell, without torch's dispatch."""

from __future__ import annotations

from typing import Any

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
    given = x, weight, bias, xs, xz, ws, wz
    y = _at_once(given, LINEAR, arithmetic)
    return library.linear(*given, arithmetic) if y is None else y


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
    given = x, weight, bias, xs, xz, ws, wz
    y = _at_once(given, geometry, arithmetic)
    if y is None:
        y = library.conv(*given, *library.conv_window(geometry), arithmetic)
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


def _at_once(given: tuple[Any, ...], geometry: Geometry, arithmetic: str) -> Tensor | None:
    """The layer of the operands ``given``, ``None`` where its op is to be dispatched."""
    x, weight, bias, xs, xz, ws, wz = given
    if is_unwatched(x, weight, bias, xs, ws):
        return library.computed_layer(x, weight, bias, xs, xz, ws, wz, geometry, arithmetic)
    if is_only_recorded(x, weight, bias, xs, ws):
        y: Tensor = RecordedLayer.apply(*given, geometry, arithmetic)  # type: ignore[no-untyped-call]
        return y
    return None
