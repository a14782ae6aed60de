"""Gram matrices of what layers sum over: all that a squared error of their weights needs of data.

For inputs ``X [samples, K]`` and a change ``D [N, K]`` of the weight, the squared error of the
output is ``|X D^T|^2 = sum_n D_n G D_n^T`` with ``G = X^T X``: one ``K x K`` matrix per group of
channels, however many batches there were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.operators import OpCall
from dovetail.emulation.weights import uncast
from dovetail.errors import DovetailError
from dovetail.recovery.batches import Batches
from dovetail.recovery.operations import Operation, watch_exact

__all__ = ["Gram", "grams", "patches", "weight_error"]

_BYTES = 1 << 29  # of matrices at a time
_ROWS = 4096  # summed in float32 at most
_STRIP = 256  # columns of a matrix at a time


class Gram:
    """One layer's inputs, summed up: ``matrix [groups, K, K]`` in float64, of parts of at most 4096
    samples in float32 (those of float64 inputs in float64); ``size [channels]`` the mean magnitude
    of each input channel; ``weight`` is what multiplies them, before its casts."""

    def __init__(self) -> None:
        self.weight = torch.empty(0)
        self.matrix: Tensor | None = None
        self._rounded: Tensor | None = None
        self.sums: Tensor | None = None
        self.rows = 0
        self.values = 0

    def add(self, call: Call) -> None:
        """Take in one more call."""
        self.weight = call.weight.detach()
        self._rounded = None
        rows = patches(call)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        length = rows.shape[2]
        if self.matrix is None:
            self.matrix = rows.new_zeros((len(rows), length, length), dtype=torch.float64)
        for part in rows.split(_ROWS, 1):
            for a in range(0, length, _STRIP):  # of the upper half, the lower is its mirror
                self.matrix[:, a : a + _STRIP, a:] += part[:, :, a : a + _STRIP].mT @ part[:, :, a:]
        x = call.plain.x.detach()
        channel = 1 if call.geometry.spatial else x.dim() - 1
        others = [d for d in range(x.dim()) if d != channel]
        sums = x.abs().sum(others, dtype=rows.dtype).double() if others else x.double().abs()
        self.sums = sums if self.sums is None else self.sums + sums
        self.rows += rows.shape[1]
        self.values += x.numel() // max(1, x.shape[channel])

    def checked(self, key: str, recipe: str) -> Gram:
        """This, refused unless some batch gave it finite numbers."""
        if self.matrix is None or self.rows == 0:
            raise DovetailError(f"{recipe}: no batch reached {key}")
        if not bool(torch.isfinite(self.matrix).all()):
            raise DovetailError(f"{recipe}: {key} was given values that are not finite")
        self.matrix = self.matrix.triu_() + self.matrix.triu(1).mT
        return self

    def rounded(self, dtype: torch.dtype) -> Tensor:
        """The matrix in another dtype; the latest is kept."""
        assert self.matrix is not None
        if self._rounded is None or self._rounded.dtype != dtype:
            self._rounded = self.matrix.to(dtype)
        return self._rounded

    @property
    def size(self) -> Tensor:
        assert self.sums is not None
        return self.sums / max(1, self.values)


def patches(call: Call) -> Tensor:
    """What each output sums over: ``[groups, samples, K]``, ``K`` in the order of ``weight[0]``.

    >>> from dovetail.kernels.geometry import LINEAR
    >>> call = Call("linear", torch.ones(2, 5, 3), torch.ones(4, 3), None, LINEAR)
    >>> patches(call).shape
    torch.Size([1, 10, 3])
    """
    call = call.plain
    x, g = call.x.detach(), call.geometry
    if g.spatial == 0:
        return x.reshape(1, -1, x.shape[-1])
    x = F.pad(x, [p for pair in reversed(g.padding) for p in pair])
    kernel = call.weight.shape[2:]
    for i, (k, step, d) in enumerate(zip(kernel, g.stride, g.dilation, strict=True)):
        # [..., window]: every d-th pixel of a span; the windows' axes collect at the end
        x = x.unfold(2 + i, d * (k - 1) + 1, step)[..., ::d]
    x = x.unflatten(1, (g.groups, -1))  # [B, G, C/G, *out, *kernel]
    order = (1, 0, *range(3, 3 + g.spatial), 2, *range(3 + g.spatial, 3 + 2 * g.spatial))
    rows: Tensor = x.permute(order)
    return rows.reshape(g.groups, -1, rows.shape[2 + g.spatial] * prod(kernel))


def grams(
    model: nn.Module, batches: Batches, ops: Sequence[Operation], recipe: str
) -> Iterator[tuple[Operation, Gram]]:
    """Each layer with its Gram matrix of what its transforms make of its exact inputs; the batches
    are run again for every half a gigabyte of matrices."""
    waiting = list(ops)
    while waiting:
        part: list[Operation] = []
        room = _BYTES
        while waiting and (not part or room >= _bytes(waiting[0])):
            room -= _bytes(waiting[0])
            part.append(waiting.pop(0))
        found = {op: Gram() for op in part}

        watch_exact(model, batches, part, partial(_see, found), f"{recipe}: {part[0].key}")
        for op in part:
            yield op, found.pop(op).checked(op.key, recipe)


def _see(found: dict[Operation, Gram], op: Operation, call: Call | OpCall, _: Tensor) -> None:
    assert isinstance(call, Call)
    found[op].add(call if op.site is None else uncast(op.site, op.module, call))


def weight_error(gram: Gram, change: Tensor) -> Tensor:
    """``[N]``: for each output the squared error, summed over all samples, that a change ``[N, K]``
    or ``[N, C/groups, *kernel]`` of the weight makes; in its dtype, float32 at least."""
    wide = torch.promote_types(change.dtype, torch.float32)
    matrix = gram.rounded(wide)
    rows = change.to(wide).flatten(1).unflatten(0, (len(matrix), -1))
    errors: Tensor = ((rows @ matrix) * rows).sum(-1, dtype=torch.float64)
    return errors.flatten()


def _bytes(op: Operation) -> int:
    return 8 * op.groups * prod(op.shapes["weight"][1:]) ** 2
