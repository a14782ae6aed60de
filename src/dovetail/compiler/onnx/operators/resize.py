"""Images of another size: by torch where it means the same, else by weights of each axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.errors import DovetailError, unknown

Floats = Sequence[float] | None
Ints = Sequence[int] | None
_MODES = {"nearest", "linear", "cubic"}
_TORCH = {1: "linear", 2: "bilinear", 3: "trilinear"}


@operator("Upsample", 7)
def upsample7(x: Tensor, *, mode: str = "nearest", scales: Sequence[float]) -> Tensor:
    """Scales as an attribute."""
    return upsample(x, scales, mode=mode)


@operator("Upsample", 9, static=(1,))
def upsample(x: Tensor, scales: Sequence[float], *, mode: str = "nearest") -> Tensor:
    """As `Resize` of opset 10."""
    return resize10(x, scales, mode=mode)


@operator("Resize", 10, static=(1,))
def resize10(x: Tensor, scales: Sequence[float], *, mode: str = "nearest") -> Tensor:
    """Every pixel is at its own index."""
    return resize(
        x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )  # fmt: skip


@operator("Resize", 11, static=(1, 2, 3))
def resize(
    x: Tensor,
    roi: Floats = None,
    scales: Floats = None,
    sizes: Ints = None,
    *,
    antialias: int = 0,
    axes: Ints = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """To sizes, or by scales, of some axes or of all."""
    if mode not in _MODES:
        raise unknown("mode", mode, _MODES)
    if coordinate_transformation_mode not in _COORDINATES:
        raise unknown(
            "coordinate_transformation_mode", coordinate_transformation_mode, _COORDINATES
        )
    chosen = [a % x.dim() for a in axes] if axes is not None else list(range(x.dim()))
    factors, targets = _targets(x, chosen, scales, sizes, keep_aspect_ratio_policy)
    where = coordinate_transformation_mode
    if not antialias and mode != "cubic":
        plain = _by_torch(x, chosen, factors, targets, mode, where, nearest_mode)
        if plain is not None:
            return plain
    dtype = x.dtype
    y = x if x.is_floating_point() else x.double()
    outside: list[tuple[int, Tensor]] = []
    for i, axis in enumerate(chosen):
        size, target, factor = x.shape[axis], targets[i], factors[i]
        box = (0.0, 1.0)
        if roi and where == "tf_crop_and_resize":
            box = (roi[i], roi[len(chosen) + i])
        elif target == size and factor == 1:
            continue
        places = _COORDINATES[where](_numbers(target, x.device), size, target, factor, box)
        if where == "tf_crop_and_resize":
            outside.append((axis, (places < 0) | (places > size - 1)))
        stretch = min(factor, 1.0) if antialias else 1.0
        matrix = _weights(places, size, mode, nearest_mode, cubic_coeff_a, exclude_outside, stretch)
        y = torch.tensordot(y, matrix.to(y.dtype), ([axis], [1])).movedim(-1, axis)
    for axis, off in outside:
        shape = [-1 if d == axis else 1 for d in range(x.dim())]
        y = torch.where(off.reshape(shape), torch.full_like(y, extrapolation_value), y)
    return y if dtype == y.dtype else torch.round(y).to(dtype)


def _targets(
    x: Tensor, axes: Sequence[int], scales: Floats, sizes: Ints, policy: str
) -> tuple[list[float], list[int]]:
    """By what factor each axis grows, and to which size."""
    if not sizes:
        if not scales:
            raise DovetailError("Resize needs scales or sizes")
        return list(scales), [int(x.shape[a] * s) for a, s in zip(axes, scales, strict=True)]
    factors = [size / x.shape[a] for a, size in zip(axes, sizes, strict=True)]
    if policy == "stretch":
        return factors, list(sizes)
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [factor] * len(axes), [int(factor * x.shape[a] + 0.5) for a in axes]


def _by_torch(
    x: Tensor,
    axes: Sequence[int],
    factors: Sequence[float],
    targets: Sequence[int],
    mode: str,
    where: str,
    nearest: str,
) -> Tensor | None:
    """`F.interpolate` of the spatial axes, where ONNX's places and roundings are torch's."""
    n = x.dim() - 2
    spatial = {a: (f, t) for a, f, t in zip(axes, factors, targets, strict=True) if a > 1}
    others = [f for a, f in zip(axes, factors, strict=True) if a < 2]
    if n not in _TORCH or len(spatial) != n or any(f != 1 for f in others):
        return None
    exact = all(abs(f * x.shape[a] - t) < 1e-6 for a, (f, t) in spatial.items())
    if not x.is_floating_point() or not exact:
        return None
    size = [spatial[a][1] for a in range(2, x.dim())]
    if mode == "nearest":
        whole = all(spatial[a][1] % x.shape[a] == 0 for a in spatial)
        same = (where, nearest) == ("asymmetric", "floor")
        same |= where == "half_pixel" and whole and nearest.startswith("round")
        return F.interpolate(x, size, mode="nearest") if same and whole else None
    if where == "half_pixel" or (where == "pytorch_half_pixel" and min(size) > 1):
        return F.interpolate(x, size, mode=_TORCH[n], align_corners=False)
    if where == "align_corners":
        return F.interpolate(x, size, mode=_TORCH[n], align_corners=True)
    return None


def _numbers(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, dtype=torch.float64, device=device)


def _half(at: Tensor, size: int, target: int, factor: float, box: Any) -> Tensor:
    return (at + 0.5) / factor - 0.5


def _torch_half(at: Tensor, size: int, target: int, factor: float, box: Any) -> Tensor:
    return (at + 0.5) / factor - 0.5 if target > 1 else at * 0


def _symmetric(at: Tensor, size: int, target: int, factor: float, box: Any) -> Tensor:
    """As if the output had the size that the factor says, and were cut about its centre."""
    adjustment = target / (factor * size)
    centre = size / 2
    return centre * (1 - adjustment) + (at + 0.5) / factor - 0.5


def _corners(at: Tensor, size: int, target: int, factor: float, box: Any) -> Tensor:
    """The last corner is where the factor says, which may be between two pixels."""
    return at * (size - 1) / (factor * size - 1) if target > 1 else at * 0


def _cropped(at: Tensor, size: int, target: int, factor: float, box: tuple[float, float]) -> Tensor:
    start, end = box
    if target <= 1:
        return at * 0 + 0.5 * (start + end) * (size - 1)
    return start * (size - 1) + at * (end - start) * (size - 1) / (target - 1)


_COORDINATES: dict[str, Callable[..., Tensor]] = {
    "half_pixel": _half,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": _torch_half,
    "align_corners": _corners,
    "asymmetric": lambda at, size, target, factor, box: at / factor,
    "tf_half_pixel_for_nn": lambda at, size, target, factor, box: (at + 0.5) / factor,
    "tf_crop_and_resize": _cropped,
}
_ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda at: torch.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: torch.floor(at + 0.5),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def _weights(
    places: Tensor, size: int, mode: str, nearest: str, a: float, exclude: int, stretch: float
) -> Tensor:
    """How much each input of one axis gives to each output: ``[outputs, inputs]``."""
    if mode == "nearest":
        if nearest not in _ROUNDINGS:
            raise unknown("nearest_mode", nearest, _ROUNDINGS)
        taps = _ROUNDINGS[nearest](places).unsqueeze(1)
        values = torch.ones_like(taps)
    else:
        reach = (1.0 if mode == "linear" else 2.0) / stretch
        width = int(-(-reach // 1))
        first = torch.floor(places).unsqueeze(1)
        taps = first + torch.arange(1 - width, width + 1, device=places.device)
        distance = (taps - places.unsqueeze(1)).abs() * stretch
        values = (1 - distance).clamp(min=0) if mode == "linear" else _cubic(distance, a)
    if exclude:
        values = values * ((taps >= 0) & (taps < size))
    if exclude or stretch != 1:
        values = values / values.sum(1, keepdim=True)
    at = taps.clamp(0, size - 1).long()
    return values.new_zeros(len(places), size).scatter_add(1, at, values)


def _cubic(d: Tensor, a: float) -> Tensor:
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
