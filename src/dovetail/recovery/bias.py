"""Bias correction: what an emulated layer gives is shifted to the mean that it has exactly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation import PlannedOp, Watched, tap
from dovetail.emulation.calls import Call
from dovetail.emulation.operators import OpCall
from dovetail.emulation.transforms import add_transform
from dovetail.errors import DovetailError
from dovetail.recovery.batches import Batches, quiet
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import PRODUCTS, Operation, Select, operations, watch_exact

__all__ = ["correct_bias"]


def correct_bias(model: nn.Module, batches: Iterable[Any], *, select: Select = "*") -> Recovery:
    """Add to the bias of each selected product of an emulated model the mean, over ``batches``, of
    what its exact output is above its emulated one, channel by channel.

    Layers are corrected in the order of their calls, each seeing what those before it give when
    they are emulated and corrected. The shift is added to the bias, before its cast, as a hidden
    tensor (``dv.state`` saves it); no parameter changes, and layers without bias are corrected,
    too. The objective is the mean over channels of the squared difference of the two means: but for
    the rounding of a bias or an output that is cast, it ends at zero. Source: Nagel and others,
    arXiv 1906.04721, section 4.2 (empirical).

    >>> import dovetail as dv
    >>> net, x = nn.Sequential(nn.Linear(1, 1)), torch.tensor([[1.0], [2.0], [4.0]])
    >>> _ = nn.init.constant_(net[0].weight, 0.7)
    >>> rule = dv.rule("*", weight="int8", input="int8", mul="broken_array(bits=8, drop_columns=9)")
    >>> _ = dv.apply_(net, dv.Recipe(rule), x)
    >>> done = dv.correct_bias(net, [x])
    >>> round(done["0"].before, 4), round(done["0"].after, 4)
    (0.0446, 0.0)
    """
    inputs = Batches(batches, model)
    found = operations(model, inputs)
    if not found.emulated:
        raise DovetailError("correct_bias: this model is not emulated: call dv.apply_ on it first")
    chosen = found.select("correct_bias", select, PRODUCTS)
    with Work("correct_bias", "mean squared bias of the channels") as work:
        wanted = _exact_means(model, inputs, chosen)
        before = {}
        for op in chosen:
            wrong = wanted[op] - _emulated_means(model, inputs, [op], stop=True)[op]
            if not bool(torch.isfinite(wrong).all()):
                raise DovetailError(f"correct_bias: {op.key} gave values that are not finite")
            before[op] = float(wrong.square().mean())
            assert op.site is not None
            work.journal.save(op.module)
            add_transform(op.site, op.module, "shift", {"shift": wrong})
        after = _emulated_means(model, inputs, chosen)
        for op in chosen:
            left = float((wanted[op] - after[op]).square().mean())
            work.note(op.key, "shift added to its bias", before[op], left)
    return work.result


class _Means:
    """The mean of each channel over everything seen, in float64."""

    def __init__(self) -> None:
        self.sums: dict[Operation, Tensor] = {}
        self.counts: dict[Operation, int] = {}

    def see(self, op: Operation, call: Call | OpCall, y: Tensor) -> None:
        assert isinstance(call, Call)
        axis = -1 - call.geometry.spatial
        channels = y.detach().double().movedim(axis, 0).flatten(1)
        before = self.sums.get(op)
        total = channels.sum(1)
        self.sums[op] = total if before is None else before + total
        self.counts[op] = self.counts.get(op, 0) + channels.shape[1]

    def of(self, ops: Iterable[Operation]) -> dict[Operation, Tensor]:
        for op in ops:
            if not self.counts.get(op):
                raise DovetailError(f"correct_bias: no batch reached {op.key}")
        return {op: self.sums[op] / self.counts[op] for op in ops}


class _EnoughError(Exception):
    """The rest of a batch has nothing to show."""


def _exact_means(
    model: nn.Module, batches: Batches, ops: list[Operation]
) -> dict[Operation, Tensor]:
    means = _Means()
    watch_exact(model, batches, ops, means.see, "correct_bias: exact means")
    return means.of(ops)


def _emulated_means(
    model: nn.Module, batches: Batches, ops: list[Operation], stop: bool = False
) -> dict[Operation, Tensor]:
    """Over emulated runs; they ``stop`` after an operation that is called once."""
    means = _Means()
    by_key = {op.site.op.key: op for op in ops if op.site is not None}

    def watch(planned: PlannedOp, seen: Watched) -> None:
        op = by_key.get(planned.key)
        if op is not None:
            means.see(op, seen.call, seen.output)
            if stop and op.calls == 1:
                raise _EnoughError

    with quiet(model), tap(model, watch):
        for batch in batches.over(f"correct_bias: {ops[0].key if stop else 'check'}"):
            try:
                model(*batch.args, **batch.kwargs)
            except _EnoughError:
                continue
    return means.of(ops)
