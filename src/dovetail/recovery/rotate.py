"""Rotation: an operation's input and weight turned by one orthogonal matrix before their casts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.operators import OpCall
from dovetail.emulation.transforms import add_transform, rotated, transformed
from dovetail.errors import DovetailError
from dovetail.recovery.batches import Batches
from dovetail.recovery.hadamard import rotation
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import PRODUCTS, Operation, Select, operations, watch_exact
from dovetail.recovery.ranges import check_observer, find_ranges

__all__ = ["rotate"]


def rotate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    select: Select = "*",
    block: int | None = None,
    seed: int = 0,
    observer: str = "minmax",
) -> Recovery:
    """Turn the input and the weight of the selected products of an emulated model by one orthogonal
    matrix, ``(x R) (w R)^T = x w^T``: the function stays, up to rounding, and what was one outlying
    channel is spread over all.

    ``R`` is a Hadamard matrix over all input channels (of each group of a convolution), or, with
    ``block``, one for each run of as many channels; ``block`` divides them. For sizes that no known
    Hadamard matrix has, a random orthogonal matrix drawn by ``seed`` takes the place of its odd
    part; the table names it. Both turns happen at every call, before the casts; parameters stay as
    they are. An operation with one input channel, a depthwise convolution, is left, as there is
    nothing to turn; it is an error if none has more. Static formats are calibrated anew by
    ``observer``. The objective is the largest over the root mean square of the input. Source:
    Ashkboos and others, QuaRot, arXiv 2404.00456.

    >>> import dovetail as dv
    >>> net, x = nn.Sequential(nn.Linear(4, 2)), torch.tensor([[8.0, 0.0, 0.0, 0.0]])
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
    >>> done = dv.rotate(net, [x])
    >>> done["0"].what, round(done["0"].before, 6), round(done["0"].after, 6)
    ('Hadamard over 4 channels', 2.0, 1.0)
    """
    check_observer(observer)
    if block is not None and (isinstance(block, bool) or block < 2):
        raise DovetailError(f"rotate: block={block} is a number of channels, at least 2")
    inputs = Batches(batches, model)
    found = operations(model, inputs)
    if not found.emulated:
        raise DovetailError("rotate: this model is not emulated: call dv.apply_ on it first")
    chosen = found.select("rotate", select, PRODUCTS, also=("matmul",))
    widths = {op: width for op in chosen if (width := _width(op, block)) > 1}
    if not widths:
        raise DovetailError(
            f"rotate: {chosen[0].key} sums over one channel: there is nothing to turn"
        )
    with Work("rotate", "largest over root mean square of the input") as work:
        peaks = _Peaks({op: rotation(width, seed) for op, width in widths.items()})
        watch_exact(model, inputs, widths, peaks.see, "rotate: inputs")
        for op in chosen:
            if op not in widths:
                work.note(op.key, "left, as it sums over one channel")
        for op, width in widths.items():
            left, right, name = rotation(width, seed)
            before, after = peaks.of(op)
            assert op.site is not None
            work.journal.save(op.module)
            add_transform(op.site, op.module, "rotation", {"left": left, "right": right})
            work.note(op.key, f"{name} over {width} channels", before, after)
        find_ranges(work, model, inputs, widths, observer)
    return work.result


def _width(op: Operation, block: int | None) -> int:
    shape = op.shapes["weight"]
    channels = shape[-2] if op.kind == "matmul" else shape[1]
    if block is not None and channels > 1 and channels % block:
        near = max(d for d in range(1, block + 1) if channels % d == 0)
        raise DovetailError(
            f"rotate: block={block} does not divide the {channels} channels of {op.key}, as "
            f"{near} does"
        )
    return min(block or channels, channels)


class _Peaks:
    """The largest magnitude and the mean square of inputs, as they are and turned."""

    def __init__(self, rotations: dict[Operation, tuple[Tensor, Tensor, str]]) -> None:
        self.rotations = rotations
        self.found: dict[Operation, list[float]] = {}

    def see(self, op: Operation, call: Call | OpCall, _: Tensor) -> None:
        assert isinstance(call, Call)
        if op.site is not None:
            call = transformed(op.site, op.module, call)
        left, right, _name = self.rotations[op]
        x = call.x.detach()
        axis = 1 if call.geometry.spatial else -1
        turned = rotated(x, axis, left.to(x.device), right.to(x.device))
        seen = self.found.setdefault(op, [0.0, 0.0, 0.0, 0.0])
        if not bool(torch.isfinite(x).all()):
            raise DovetailError(f"rotate: {op.key} was given values that are not finite")
        if x.numel():
            seen[0] = max(seen[0], float(x.abs().max()))
            seen[1] = max(seen[1], float(turned.abs().max()))
            seen[2] += float(x.double().square().sum())
            seen[3] += x.numel()

    def of(self, op: Operation) -> tuple[float, float]:
        before, after, squares, count = self.found[op]
        size = (squares / count) ** 0.5 if squares else 1.0
        return before / size, after / size
