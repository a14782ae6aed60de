"""SLaNC: normalisations whose sums stay in range, scaled by what the weights before them say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.operators import OpCall, class_kind
from dovetail.emulation.transforms import add_transform, prepared_norm
from dovetail.errors import DovetailError
from dovetail.recovery.batches import Batches
from dovetail.recovery.flow import flow
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.norm_blocks import Blocks
from dovetail.recovery.operations import Operation, Select, operations, watch_exact
from dovetail.recovery.ranges import check_observer, find_ranges

__all__ = ["slanc"]

NORMS = ("layer_norm", "rms_norm")


def slanc(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    select: Select = "*",
    observer: str = "minmax",
) -> Recovery:
    """Multiply the input of the selected layer and RMS norms of an emulated model by a constant,
    and their ``eps`` by its square, before any cast: the function stays, and the sum of squares
    fits a narrow accumulator.

    The constant is ``1 / n``, where ``n`` is an estimate of the input's size from the weights of
    the block before it, whose own norm has the weights ``g`` (``o`` and ``v`` the output and value
    projections of attention, heads that share values repeated; spectral norms ``|.|_2``):

    * attention with its residual: ``n = |(o v + 1) g|_F``
    * ``down(act(gate x) * (up x))``: ``n = |down (up g)|_F |gate g|_2``
    * ``down(act(up x))``: ``n = mean|g| |up|_2 |down|_2``

    ``batches`` serve to see which operation feeds which. A norm with no such block before it, as
    the first one, is left, and the table says so; none at all is an error, and so is a norm that a
    module writes out in tensor arithmetic and that no ``fn=`` computes: its ``eps`` is out of
    reach. The objective is the largest sum of squares of an input: above 65504, fp16 overflows.
    Static formats are calibrated anew by ``observer``. Source: Salmani and others, SLaNC, arXiv
    2410.10553.

    >>> import dovetail as dv
    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.before, self.after = nn.LayerNorm(2), nn.LayerNorm(2)
    ...         self.up, self.down = nn.Linear(2, 2), nn.Linear(2, 2)
    ...     def forward(self, x):
    ...         return self.after(x + self.down(torch.relu(self.up(self.before(x)))))
    >>> net, x = Block(), torch.ones(1, 2)
    >>> for layer in (net.up, net.down):
    ...     with torch.no_grad():
    ...         _ = layer.weight.copy_(4 * torch.eye(2))
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule(op="norm", fn="norm(format=fp16)")), x)
    >>> done = dv.slanc(net, [x])
    >>> done["after"].what
    'input times 0.0625'
    """
    check_observer(observer)
    inputs = Batches(batches, model)
    found = operations(model, inputs)
    if not found.emulated:
        raise DovetailError("slanc: this model is not emulated: call dv.apply_ on it first")
    chosen = found.select("slanc", select, NORMS)
    for op in chosen:
        assert op.site is not None
        if class_kind(type(op.module)) is not None and op.site.arithmetic.fn is None:
            raise DovetailError(
                f"slanc: {op.key} is written out in tensor arithmetic, and its eps is out of "
                "reach: give it fn='norm(...)', or select= others"
            )
    blocks = Blocks(found, flow(model, inputs))
    sizes = {op: blocks.size_before(op) for op in chosen}
    able = {op: size for op, (size, _) in sizes.items() if size is not None}
    if not able:
        op, (_, why) = next(iter(sizes.items()))
        raise DovetailError(f"slanc: {op.key} cannot be scaled, as {why}")
    with Work("slanc", "largest sum of squares of the input") as work:
        peaks: dict[Operation, float] = {}
        watch_exact(model, inputs, chosen, _Peaks(peaks).see, "slanc: inputs")
        for op, (size, why) in sizes.items():
            if size is None:
                work.note(op.key, f"left, as {why}", peaks[op], peaks[op])
                continue
            assert op.site is not None
            factor = torch.tensor(1 / size, dtype=torch.float64)
            work.journal.save(op.module)
            add_transform(op.site, op.module, "norm", {"factor": factor})
            what = f"input times {float(factor):.4g}"
            work.note(op.key, what, peaks[op], peaks[op] * float(factor) ** 2)
        find_ranges(work, model, inputs, able, observer)
    return work.result


class _Peaks:
    """The largest sum of squares over the normalised axes."""

    def __init__(self, found: dict[Operation, float]) -> None:
        self.found = found

    def see(self, op: Operation, call: Call | OpCall, _: Tensor) -> None:
        assert isinstance(call, OpCall)
        assert op.site is not None
        call = prepared_norm(op.site, op.module, call)
        x = call.operands["input"].detach().double()
        axes = len(call.attributes["normalized_shape"])
        squares = x.square().flatten(-axes).sum(-1)
        if not bool(torch.isfinite(squares).all()):
            raise DovetailError(f"slanc: {op.key} was given values that are not finite")
        peak = float(squares.max()) if squares.numel() else 0.0
        self.found[op] = max(self.found.get(op, 0.0), peak)
