"""Boxes and regions of interest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.errors import unknown


def _first(value: Any, otherwise: float) -> float:
    value = value[0] if isinstance(value, list) else value
    return otherwise if value is None else value


@operator("NonMaxSuppression", 10, static=(2, 3, 4))
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    most: Any = None,
    iou: Any = None,
    least: Any = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """Of boxes that overlap, the one of the highest score: rows (batch, class, box)."""
    limit, overlap = int(_first(most, 0)), _first(iou, 0.0)
    corners = _corners(boxes, center_point_box)
    kept: list[list[int]] = []
    for batch in range(scores.shape[0]):
        for kind in range(scores.shape[1]):
            chosen: list[int] = []
            for at in torch.sort(scores[batch, kind], descending=True, stable=True)[1].tolist():
                if len(chosen) >= limit or (
                    least is not None and scores[batch, kind, at] <= _first(least, 0.0)
                ):
                    break
                own = corners[batch]
                if not any(_overlap(own[at], own[other]) > overlap for other in chosen):
                    chosen.append(at)
            kept += [[batch, kind, at] for at in chosen]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _corners(boxes: Tensor, centred: int) -> Tensor:
    """As lower and upper corner, whichever way a box is given."""
    if centred:
        middle, half = boxes[..., :2], boxes[..., 2:] / 2
        return torch.cat((middle - half, middle + half), -1)
    a, b = boxes[..., :2], boxes[..., 2:]
    return torch.cat((torch.minimum(a, b), torch.maximum(a, b)), -1)


def _overlap(a: Tensor, b: Tensor) -> float:
    """Intersection over union."""
    sides = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    common = sides.prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common
    return float(common / union) if union > 0 else 0.0


@operator("RoiAlign", 10)
def roi_align10(
    x: Tensor,
    rois: Tensor,
    batch: Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """Without the half pixel."""
    return roi_align(
        x, rois, batch, coordinate_transformation_mode="output_half_pixel", mode=mode,
        output_height=output_height, output_width=output_width, sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )  # fmt: skip


@operator("RoiAlign", 16)
def roi_align(
    x: Tensor,
    rois: Tensor,
    batch: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """Each region as a grid of means, or largest, of points between pixels."""
    if mode not in ("avg", "max"):
        raise unknown("mode", mode, ["avg", "max"])
    aligned = coordinate_transformation_mode == "half_pixel"
    found: list[Tensor] = []
    for region, image in zip(rois, batch.tolist(), strict=True):
        left, top, right, bottom = (region * spatial_scale - (0.5 if aligned else 0)).unbind()
        height, width = bottom - top, right - left
        if not aligned:
            height, width = height.clamp(min=1), width.clamp(min=1)
        rows = sampling_ratio or int(torch.ceil(height / output_height))
        columns = sampling_ratio or int(torch.ceil(width / output_width))
        y = top + _places(output_height, rows, x) * (height / output_height)
        z = left + _places(output_width, columns, x) * (width / output_width)
        points = _bilinear(x[image], y, z, mode == "max")
        grid = points.reshape(-1, output_height, rows, output_width, columns)
        found.append(grid.amax((2, 4)) if mode == "max" else grid.mean((2, 4)))
    shape = (0, x.shape[1], output_height, output_width)
    return torch.stack(found) if found else x.new_zeros(shape)


def _places(bins: int, samples: int, like: Tensor) -> Tensor:
    """Where the samples of each bin are, in bins."""
    inner = (torch.arange(samples, device=like.device, dtype=like.dtype) + 0.5) / samples
    outer = torch.arange(bins, device=like.device, dtype=like.dtype)
    return (outer.unsqueeze(1) + inner).reshape(-1)


def _bilinear(image: Tensor, y: Tensor, x: Tensor, largest: bool) -> Tensor:
    """``image [channels, height, width]`` at every pair of rows and columns; 0 well outside.

    For the largest of a bin ONNX compares the four weighted corners of a point, not their sum.
    """
    height, width = image.shape[1:]
    inside = ((y >= -1) & (y <= height)).unsqueeze(1) & ((x >= -1) & (x <= width))
    y0, y1, fy = _corner(y, height)
    x0, x1, fx = _corner(x, width)
    fy, fx = fy.unsqueeze(1), fx
    terms = [
        image[:, y0][:, :, x0] * (1 - fy) * (1 - fx),
        image[:, y0][:, :, x1] * (1 - fy) * fx,
        image[:, y1][:, :, x0] * fy * (1 - fx),
        image[:, y1][:, :, x1] * fy * fx,
    ]
    stacked = torch.stack(terms)
    points = stacked.amax(0) if largest else stacked.sum(0)
    return points * inside


def _corner(places: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    at = places.clamp(min=0)
    low = at.floor().long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    part = torch.where(low >= size - 1, torch.zeros_like(at), at - low)
    return low, high, part


@operator("MaxRoiPool")
def max_roi_pool(
    x: Tensor, rois: Tensor, *, pooled_shape: Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    """Each region, on whole pixels, as a grid of largest values."""
    rows, columns = pooled_shape
    found: list[Tensor] = []
    for roi in rois.tolist():
        image = x[int(roi[0])]
        left, top, right, bottom = (int(torch.tensor(v * spatial_scale).round()) for v in roi[1:])
        height, width = max(bottom - top + 1, 1), max(right - left + 1, 1)
        out = image.new_zeros(image.shape[0], rows, columns)
        for i in range(rows):
            y0, y1 = _bin(i, rows, height, top, image.shape[1])
            for j in range(columns):
                x0, x1 = _bin(j, columns, width, left, image.shape[2])
                if y1 > y0 and x1 > x0:
                    out[:, i, j] = image[:, y0:y1, x0:x1].amax((1, 2))
        found.append(out)
    return torch.stack(found) if found else x.new_zeros(0, x.shape[1], rows, columns)


def _bin(at: int, bins: int, size: int, start: int, limit: int) -> tuple[int, int]:
    low = start + at * size // bins
    high = start - (-(at + 1) * size // bins)
    return min(max(low, 0), limit), min(max(high, 0), limit)
