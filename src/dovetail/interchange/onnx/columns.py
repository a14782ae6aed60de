"""A convolution's windows as rows, in ONNX operators."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from dovetail.interchange.onnx.nodes import Nodes
from dovetail.kernels.geometry import Geometry

__all__ = ["columns", "joined"]


def columns(
    nodes: Nodes,
    x: str,
    geometry: Geometry,
    kernel: Sequence[int],
    shape: Sequence[int],
    result: Sequence[int],
) -> str:
    """``[B, groups, pixels, C/groups * taps]`` of a padded ``x [B, C, *spatial]`` of that shape.

    The last axis is in the order of the flattened weight.
    """
    axes = nodes.ints(*range(2, 2 + geometry.spatial))
    steps = nodes.ints(*geometry.stride)
    seen = []
    for taps in product(*map(range, kernel)):
        starts = [t * d for t, d in zip(taps, geometry.dilation, strict=True)]
        moves = zip(starts, geometry.stride, result[2:], strict=True)
        ends = [start + (size - 1) * step + 1 for start, step, size in moves]
        part = nodes("Slice", x, nodes.ints(*starts), nodes.ints(*ends), axes, steps)
        seen.append(nodes("Unsqueeze", part, nodes.ints(2)))
    stacked = seen[0] if len(seen) == 1 else nodes("Concat", *seen, axis=2)
    depth = shape[1] // geometry.groups * prod(kernel)
    rows = nodes.reshape(stacked, (0, geometry.groups, depth, prod(result[2:])))
    return nodes("Transpose", rows, perm=[0, 1, 3, 2])


def joined(nodes: Nodes, sums: str, result: Sequence[int]) -> str:
    """``[B, groups, pixels, O/groups]`` as a convolution's result ``[B, O, *out]``."""
    turned = nodes("Transpose", sums, perm=[0, 1, 3, 2])
    return nodes.reshape(turned, (0, *result[1:]))
