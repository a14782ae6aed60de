"""Exact sums of a multiplier's products in ONNX operators, three ways.

``bytes``: operands are looked up in tables of bytes (one for each of the multiplier's exact
factors) and multiplied by MatMulInteger or ConvInteger; ``words``: the same with tables of int64,
which MatMul takes; ``table``: every product is looked up and added, which is right for any
multiplier and slow. Bytes are unsigned with a zero point: those no machine saturates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from dovetail.interchange.onnx.columns import columns, joined
from dovetail.interchange.onnx.factored import Terms
from dovetail.interchange.onnx.nodes import Nodes
from dovetail.kernels.geometry import Geometry
from dovetail.multipliers.operands import IntArray

__all__ = ["Window", "how_multiplied", "of_constant", "of_operands"]

#: Entries of the largest intermediate of products that are looked up one by one.
LARGEST = 1 << 22


@dataclass(frozen=True)
class Window:
    """What a layer multiplies: its geometry (padding aside, which is done), the shapes of the
    padded input and of the result."""

    geometry: Geometry
    input: tuple[int, ...]
    result: tuple[int, ...]


def how_multiplied(terms: Terms, depth: int) -> str:
    """``bytes``, ``words`` or ``table``, for sums of ``depth`` products with a constant weight.

    >>> byte = np.arange(-128, 128)[None]
    >>> terms = Terms((-128, -128), byte, byte, np.zeros(256, np.int64), is_plain=True)
    >>> how_multiplied(terms, 64), how_multiplied(terms, 2**20)
    ('bytes', 'words')
    """
    if terms.table is not None:
        return "table"
    return "bytes" if terms.fits_bytes and terms.bound * depth < 2**31 else "words"


def of_constant(nodes: Nodes, a: str, w: IntArray, terms: Terms, window: Window) -> str:
    """``sum_k f(a, w)`` in int64; ``a`` are whole floating-point numbers, ``w`` a weight's codes.

    ``w`` is ``[N, K]`` or ``[O, C/groups, *kernel]``.
    """
    places, geometry = w - terms.lows[1], window.geometry
    depth = prod(w.shape[1:])
    if how_multiplied(terms, depth) == "bytes":
        sums = _of_bytes(nodes, a, places, terms, window)
    elif geometry.spatial == 0:
        sums = _of_rows(nodes, a, places, terms, window.result)
    else:
        cut = columns(nodes, a, geometry, w.shape[2:], window.input, window.result)
        rows = places.reshape(geometry.groups, -1, depth)
        sums = joined(nodes, _of_rows(nodes, cut, rows, terms, window.result), window.result)
    constants = terms.constant[places].reshape(len(w), -1).sum(1)
    if not constants.any():
        return sums
    return nodes("Add", sums, nodes.constant(constants.reshape(-1, *[1] * geometry.spatial)))


def of_operands(
    nodes: Nodes,
    a: str,
    w: str,
    terms: Terms,
    ranks: tuple[int, int],
    result: Sequence[int],
    depth: int,
) -> str:
    """``sum_k f(a[..., m, k], w[..., n, k])`` in int64; both are whole numbers in floating point.

    ``ranks`` count the axes of both, ``depth`` is the length of the last one; ``result`` is the
    shape of what comes out.
    """
    if terms.table is not None:
        second = _place(nodes, w, terms.lows[1])

        def some(start: int, stop: int) -> str:
            part = nodes("Slice", second, nodes.ints(start), nodes.ints(stop), nodes.ints(-2))
            return nodes("Unsqueeze", part, nodes.ints(-3))

        return _looked_up(nodes, a, terms, some, result[-1], prod(result) * depth)
    left = _words(nodes, a, terms, 0, depth, ranks[0])
    right = _words(nodes, w, terms, 1, depth, ranks[1])
    axes = [*range(ranks[1] - 2), ranks[1] - 1, ranks[1] - 2]
    sums = nodes("MatMul", left, nodes("Transpose", right, perm=axes))
    if not terms.constant.any():
        return sums
    each = nodes("Gather", nodes.constant(terms.constant), _place(nodes, w, terms.lows[1]))
    return nodes("Add", sums, nodes("Unsqueeze", _added(nodes, each), nodes.ints(-2)))


def _place(nodes: Nodes, codes: str, low: int) -> str:
    """Where whole numbers stand in tables that begin at ``low``, as int64."""
    return nodes.cast(nodes("Sub", codes, nodes.float(low)) if low else codes, "INT64")


def _added(nodes: Nodes, x: str) -> str:
    return nodes("ReduceSum", x, nodes.ints(-1), keepdims=0)


def _of_bytes(nodes: Nodes, a: str, places: IntArray, terms: Terms, window: Window) -> str:
    """By MatMulInteger or ConvInteger; the sums fit 32 bits, proven by whoever calls."""
    (base, w_base), spatial = terms.bases, window.geometry.spatial
    points = [nodes.constant(np.uint8(b)) for b in (base, w_base)]
    if terms.is_plain:
        entries = nodes.cast(nodes("Add", a, nodes.float(base)) if base else a, "UINT8")
    else:
        table = (terms.first.T + base).astype(np.uint8)
        entries = nodes("Gather", nodes.constant(table), _place(nodes, a, terms.lows[0]))
        entries = _merged(nodes, entries, window, terms.rank)
    # [N, K, r] or [O, C, r, *kernel], and r joins what stands before it.
    weight = np.moveaxis(terms.second[:, places] + w_base, 0, 2).astype(np.uint8)
    weight = weight.reshape(weight.shape[0], -1, *weight.shape[3:])
    if spatial == 0:
        product = nodes("MatMulInteger", entries, nodes.constant(weight.T.copy()), *points)
    else:
        g = window.geometry
        product = nodes(
            "ConvInteger",
            entries,
            nodes.constant(weight),
            *points,
            strides=list(g.stride),
            dilations=list(g.dilation),
            group=g.groups,
            kernel_shape=list(weight.shape[2:]),
        )
    return nodes.cast(product, "INT64")


def _merged(nodes: Nodes, entries: str, window: Window, rank: int) -> str:
    """The axis of the terms, which a look-up adds as the last one, within that of the products."""
    shape = window.input
    if window.geometry.spatial == 0:
        return nodes.reshape(entries, (*[0] * (len(shape) - 1), shape[-1] * rank))
    last = len(shape)
    turned = nodes("Transpose", entries, perm=[0, 1, last, *range(2, last)])
    return nodes.reshape(turned, (0, shape[1] * rank, *shape[2:]))


def _of_rows(nodes: Nodes, a: str, places: IntArray, terms: Terms, result: Sequence[int]) -> str:
    """``[..., N]`` of rows ``a [..., K]`` and ``places [N, K]``, or with an axis of groups before
    the last two of both."""
    depth = places.shape[-1]
    if terms.table is None:
        weight = np.moveaxis(terms.second[:, places], 0, -1).reshape(*places.shape[:-1], -1)
        rank = len(result) if places.ndim == 2 else 4
        left = _words(nodes, a, terms, 0, depth, rank)
        return nodes("MatMul", left, nodes.constant(np.swapaxes(weight, -1, -2).copy()))
    second = places if places.ndim == 2 else places[:, None]

    def some(start: int, stop: int) -> str:
        return nodes.constant(np.ascontiguousarray(second[..., start:stop, :]))

    return _looked_up(nodes, a, terms, some, places.shape[-2], prod(result) * depth)


def _looked_up(
    nodes: Nodes,
    a: str,
    terms: Terms,
    some: Callable[[int, int], str],
    number: int,
    products: int,
) -> str:
    """``[..., number]``: every one of so many ``products`` looked up, those of ``some`` outputs at
    a time, whose other operands' places that gives."""
    assert terms.table is not None
    rows = nodes("Mul", _place(nodes, a, terms.lows[0]), nodes.ints(terms.table.shape[1]))
    rows = nodes("Unsqueeze", rows, nodes.ints(-2))
    table = nodes.constant(terms.table.ravel())
    step = max(1, LARGEST * number // max(1, products))
    parts = []
    for start in range(0, number, step):
        place = nodes("Add", rows, some(start, start + step))
        parts.append(_added(nodes, nodes("Gather", table, place)))
    return parts[0] if len(parts) == 1 else nodes("Concat", *parts, axis=-1)


def _words(nodes: Nodes, x: str, terms: Terms, side: int, depth: int, rank: int) -> str:
    """The entries of one operand ``[..., K]`` of ``rank`` axes, as int64 ``[..., K * terms]``."""
    if terms.is_plain:
        return nodes.cast(x, "INT64")
    table = (terms.first, terms.second)[side].T
    found = nodes("Gather", nodes.constant(table.copy()), _place(nodes, x, terms.lows[side]))
    return nodes.reshape(found, (*[0] * (rank - 1), depth * terms.rank))
