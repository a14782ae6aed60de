"""Cross-layer equalisation: neighbouring layers share out the sizes of their channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation.transforms import largest_weights, multiplied
from dovetail.errors import DovetailError
from dovetail.recovery.batches import Batches
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import PRODUCTS, Select, operations
from dovetail.recovery.ranges import check_observer, find_ranges
from dovetail.recovery.scaling import Group, groups, take_out

__all__ = ["equalise"]

_SWEEPS, _EVEN = 100, 1e-3


def equalise(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    select: Select = "*",
    observer: str = "minmax",
) -> Recovery:
    """Equalise the weight ranges of layers that follow one another: channel i between them is
    divided by ``s_i = sqrt(r1_i / r2_i)`` in the first and multiplied by it in the second, where
    ``r1_i`` and ``r2_i`` are the largest magnitudes of its weights there; both become
    ``sqrt(r1_i * r2_i)``. This is repeated over all pairs until no ``s_i`` is further than 0.1 %
    from 1. A channel with a zero range is left.

    Pairs are a selected linear layer or convolution and the one that feeds it, directly or through
    ReLU, leaky ReLU, dropout, pooling or a product with something else, and feeds nothing else, as
    the first batch proves; through ReLU6 or a batch norm no scale passes (fold batch norms first).
    In exact arithmetic the function stays. The objective is the mean over channels of
    ``r1_i / max(r1) * r2_i / max(r2)``: at 1, every channel uses the whole range of both. Static
    formats that are touched are calibrated anew by ``observer``. No pair at all is an error that
    says why. Source: Nagel and others, arXiv 1906.04721.

    >>> import dovetail as dv
    >>> net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    >>> for layer, size in ((net[0], 8.0), (net[2], 2.0)):
    ...     _ = nn.init.constant_(layer.weight, size)
    >>> done = dv.equalise(net, [torch.ones(1, 1)])
    >>> net[0].weight.item(), net[2].weight.item(), done["2"].what
    (4.0, 4.0, 'equalised with 0')
    >>> done.undo()
    """
    check_observer(observer)
    inputs = Batches(batches, model)
    found = operations(model, inputs)
    chosen = found.select("equalise", select, PRODUCTS)
    pairs = groups(model, inputs, found, chosen, sources=PRODUCTS)
    able = [pair for pair in pairs if pair.source is not None]
    if not able:
        op, why = pairs[0].takers[0], pairs[0].why
        raise DovetailError(f"equalise: no two layers can be equalised; of {op.key}, {why}")
    with Work("equalise", "mean precision of the channels, at most 1") as work:
        before = {pair: _precision(pair) for pair in able}
        _sweep(work, able)
        for pair, precision in before.items():
            assert pair.source is not None
            for op in pair.takers:
                what = f"equalised with {pair.source.key}"
                work.note(op.key, what, precision, _precision(pair))
        find_ranges(work, model, inputs, [op for pair in able for op in pair.everyone], observer)
    return work.result


def _sweep(work: Work, pairs: list[Group]) -> None:
    for _ in range(_SWEEPS):
        furthest = 0.0
        for pair in pairs:
            first, second = _ranges(pair)
            used = (first > 0) & (second > 0)
            scale = torch.where(used, (first / second).sqrt(), torch.ones_like(first))
            assert pair.source is not None
            if not bool(torch.isfinite(scale).all()):
                raise DovetailError(f"equalise: the weights of {pair.source.key} are not finite")
            furthest = max(furthest, float((scale - 1).abs().max()))
            take_out(work, pair.source, scale)
            for op in pair.takers:
                assert op.weight is not None
                value = multiplied(op.weight.read(), scale, op.kind, op.groups)
                op.weight.write(value, work.journal)
        if furthest < _EVEN:
            return


def _ranges(pair: Group) -> tuple[Tensor, Tensor]:
    """The largest magnitude of each channel in what gives it and in what takes it."""
    assert pair.source is not None
    assert pair.source.weight is not None
    first = pair.source.weight.read().abs().flatten(1).amax(1).double()
    weights = [(op.weight.read(), op) for op in pair.takers if op.weight is not None]
    second = [largest_weights(value, op.kind, op.groups) for value, op in weights]
    return first, torch.stack(second).amax(0).double()


def _precision(pair: Group) -> float:
    sizes = [r / r.max().clamp(min=1e-30) for r in _ranges(pair)]
    return float((sizes[0] * sizes[1]).mean())
