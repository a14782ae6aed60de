"""Weights remapped to the codes whose approximate products are nearest to what they should be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.analysis.operands import OperandCounts
from dovetail.emulation import PlannedOp
from dovetail.emulation.weights import changing, prepared
from dovetail.formats import IntFormat
from dovetail.formats.quantization import dequantize
from dovetail.recovery.batches import Batches
from dovetail.recovery.code_products import (
    CodeCall,
    code_operations,
    counted_operands,
    tabulated,
    watch_codes,
)
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import Operation, Select
from dovetail.recovery.order import note_remapped

__all__ = ["nearest_codes", "remap_weights"]


def remap_weights(model: nn.Module, batches: Iterable[Any], *, select: Select = "*") -> Recovery:
    """Change each weight of the selected products from its code ``w`` to the code ``w'`` whose
    approximate products are nearest to the exact ones of ``w``: the one of least mean square of
    ``f(a, w') - a * w`` over the input codes ``a`` as often as they are multiplied in the layer.

    One map for all weights of a layer, from ``batches``; ``w`` itself wins a tie, then the nearest
    code. The parameter takes the value of its new code and keeps its own where the code stays. The
    weights that the range of a channel (or of the whole weight, where it has one scale) hangs on
    stay, as do those whose new code would reach its ends, so that no scale changes. Under an input
    with zero point ``z`` the products compared are those of ``a - z``.

    The parameters then are no longer those that the products should be of, so recipes that compare
    with exact products or round again are refused until the weights are trained or this is undone.

    The objective is the squared error of the layer's sums over ``batches``, relative to the exact
    sums of the codes before. The map makes each product better, not surely their sum: an operation
    whose objective does not fall is left as it is, as is one whose weight is shared with another,
    computed, or changed by a hidden transform at every call (fuse it, or remap first). Source:
    Mrazek and others, ALWANN, arXiv 1907.07229, section 3.4, whose mean is of magnitudes over all
    codes alike.

    >>> import dovetail as dv
    >>> net, x = nn.Sequential(nn.Linear(3, 1, bias=False)), torch.tensor([[1.0, 0.5, 0.3]])
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[127.0, 63.0, 31.0]]) / 127)
    >>> rule = dv.rule("*", input="int8", weight="int8", mul="broken_array(bits=8, drop_columns=7)")
    >>> _ = dv.apply_(net, dv.Recipe(rule), x)
    >>> done = dv.remap_weights(net, [x])
    >>> done["0"].after < done["0"].before
    True
    """
    inputs = Batches(batches, model)
    chosen = code_operations("remap_weights", model, inputs, select)
    with Work("remap_weights", "squared error of the multiplier") as work:
        counts = counted_operands("remap_weights", model, inputs, chosen)
        maps = {op: _Map(op, counts[op]) for op in chosen}

        def see(op: Operation, _: PlannedOp, call: CodeCall) -> None:
            maps[op].see(call)

        watch_codes(model, inputs, chosen, see, "remap_weights: check")
        for op in chosen:
            _settle(work, op, maps[op])
    return work.result


def nearest_codes(counts: OperandCounts, codes: Tensor, zero: int = 0) -> Tensor:
    """For each of some weight codes the one of them whose products are nearest to its own, over
    the counted inputs, ``zero`` being the input's zero point.

    >>> import numpy as np
    >>> from dovetail.multipliers import multiplier
    >>> low = multiplier("mul8s_1KVM")  # (a & ~1) * w
    >>> inputs = np.bincount([3, 3], minlength=256)
    >>> nearest_codes(OperandCounts(low, 1, inputs, inputs, None), torch.arange(5)).tolist()
    [0, 1, 3, 4, 4]
    """
    products, inputs, weights = tabulated(counts.mul)
    met = torch.from_numpy(counts.first).nonzero()[:, 0]
    often = torch.from_numpy(counts.first)[met].double()
    at = codes.long() & (len(weights) - 1)
    # f(a, w') - z w' is what w' gives, (a - z) w what w asks for.
    given = products[met][:, at] - zero * codes.double()
    a = inputs[met][:, None] - zero
    best = []
    for w in codes.tolist():
        cost = often @ (given - a * w).square()
        least = codes[cost == cost.min()]
        best.append(int(least[(least - w).abs().argmin()]))
    return torch.tensor(best, dtype=torch.int64)


def _settle(work: Work, op: Operation, made: _Map) -> None:
    before, after = made.error(made.before), made.error(made.after)
    if made.kept is None and not after < before:
        made.kept = "its sums would not gain"
    if made.kept is not None or op.weight is None:
        work.note(op.key, f"left as it is: {made.kept}", before, before)
        return
    op.weight.write(made.value, work.journal)
    note_remapped(op, work.journal)
    work.note(op.key, f"{made.moved} of {made.value.numel()} weights moved", before, after)


class _Map:
    """One layer's new weight, and the squared error of its sums with the old one and the new."""

    def __init__(self, op: Operation, counts: OperandCounts) -> None:
        self.op, self.counts = op, counts
        self.kept = _reason(op)
        self.value = self.codes = torch.empty(0)
        self.moved = 0
        self.before = self.after = self.power = 0.0

    def see(self, call: CodeCall) -> None:
        if not self.codes.numel():
            self._make(call)
        exact = call.sums("exact")
        worth = call.weight_scale[:, None] ** 2
        self.power += float((exact.square() * worth).sum())
        self.before += float(((call.sums(self.counts.mul) - exact).square() * worth).sum())
        if self.kept is None:
            old = call.weight.codes.flatten(1).double().sum(1)
            shift = call.input.zero * (self.codes.flatten(1).double().sum(1) - old)
            sums = call.sums(self.counts.mul, self.codes) - shift[:, None]
            self.after += float(((sums - exact).square() * worth).sum())

    def error(self, squares: float) -> float:
        return squares / max(self.power, 1e-300)

    def _make(self, call: CodeCall) -> None:
        """The new codes, and values that are quantised to just these."""
        weight, old = call.seen.call.weight.detach(), call.weight
        rows = old.scale.dim() > 0
        flat = old.codes.long().flatten(1) if rows else old.codes.long().view(1, -1)
        low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
        if not _is_affine(self.op):
            high = torch.maximum(high, -low)
            low = -high
        codes = torch.arange(int(flat.min()), int(flat.max()) + 1)
        table = nearest_codes(self.counts, codes, call.input.zero).to(flat.device)
        new = table[flat - int(codes[0])]
        inside = (low < new) & (new < high) & (low < flat) & (flat < high)
        new = torch.where(inside, new, flat).view(old.codes.shape)
        moved = new != old.codes
        values = dequantize(new, old.scale, old.zeros, 0 if rows else None, weight.dtype)
        self.value, self.moved = torch.where(moved, values, weight), int(moved.sum())
        self.codes = new.to(old.codes.dtype)
        if self.kept is None and self.moved and not self._holds(call):
            self.kept = "its codes would change with its range"

    def _holds(self, call: CodeCall) -> bool:
        """Whether the new values are quantised as they should be."""
        inner = call.seen.call
        changed = inner.with_operands(inner.x, self.value, inner.bias)
        again = prepared(call.seen.site, call.seen.module, changed).weight
        return torch.equal(call.codes(again, "weight").codes, self.codes)


def _is_affine(op: Operation) -> bool:
    """Whether the range of its weight has two ends of its own."""
    assert op.site is not None
    fmt = op.site.arithmetic.weight
    return isinstance(fmt, IntFormat) and fmt.affine


def _reason(op: Operation) -> str | None:
    """Why a layer's weight cannot be changed, if it cannot."""
    assert op.site is not None
    if op.weight is None:
        return "its weight is no parameter of it"
    if op.shared:
        return f"its weight is also {op.shared[0]}"
    hidden = changing(op.site, "weight")
    return None if hidden is None else f"its weight has a hidden {hidden}"
