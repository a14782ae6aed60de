"""How encoding walks through a tensor: as ``[outer, length, inner]``, a cacheful at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import BlockFormat

__all__ = ["LIMIT", "axis_of", "boxes", "local", "seen_along"]

#: Elements worked on at a time.
LIMIT = 1 << 18


def axis_of(fmt: BlockFormat, axis: int | None, dims: int) -> int:
    """Where the blocks run, counted from 0: the format's own axis, the given one, or the last.

    >>> from dovetail.formats import format
    >>> axis_of(format("mxfp4"), None, 3), axis_of(format("mxfp4(axis=0)"), 1, 3)
    (2, 0)
    """
    axis = fmt.axis if fmt.axis is not None else -1 if axis is None else axis
    if not -dims <= axis < dims:
        raise DovetailError(
            f"axis={axis} of '{fmt}' is not an axis of a tensor with {dims} dimensions"
        )
    return axis % dims


def local(fmt: BlockFormat, length: int) -> BlockFormat:
    """The same format for a tensor seen by :func:`seen_along`: no axis, no block beyond its end.

    >>> from dovetail.formats import format
    >>> local(format("mxfp4(axis=0)"), 5)
    mxfp4(block=5)
    """
    changes: dict[str, Any] = {"axis": None, "block": min(fmt.block, max(length, 1))}
    free: BlockFormat = replace(fmt, **changes)  # type: ignore[type-var]
    return free


def seen_along(x: Tensor, axis: int) -> Tensor:
    """``x`` as ``[outer, length, inner]`` with ``axis`` (counted from 0) in the middle.

    >>> import torch
    >>> seen_along(torch.zeros(2, 3, 4, 5), 1).shape
    torch.Size([2, 3, 20])
    """
    return x.reshape(prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :]))


def boxes(
    shape: tuple[int, ...], block: int, limit: int = LIMIT
) -> Iterator[tuple[slice, slice, slice]]:
    """Slices of ``[outer, length, inner]`` that hold whole blocks and about ``limit`` elements.

    >>> [(o.stop, n.stop, i.stop) for o, n, i in boxes((1, 5, 2), 2, limit=4)]
    [(1, 2, 2), (1, 4, 2), (1, 5, 2)]
    """
    inner = max(1, min(shape[2], limit // block))
    length = max(1, limit // (inner * block)) * block
    outer = max(1, limit // (inner * max(1, min(length, shape[1]))))
    for o in range(0, shape[0], outer):
        for n in range(0, shape[1], length):
            for i in range(0, shape[2], inner):
                yield (
                    slice(o, min(o + outer, shape[0])),
                    slice(n, min(n + length, shape[1])),
                    slice(i, min(i + inner, shape[2])),
                )
