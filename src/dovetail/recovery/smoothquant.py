"""SmoothQuant: part of the difficulty of an input's outlying channels moved into the weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.operators import OpCall
from dovetail.emulation.transforms import (
    add_transform,
    largest_inputs,
    largest_weights,
    smoothing,
    transformed,
)
from dovetail.errors import DovetailError
from dovetail.recovery.batches import Batches
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import PRODUCTS, Operation, Select, operations, watch_exact
from dovetail.recovery.ranges import check_observer, find_ranges
from dovetail.recovery.scaling import Group, check_fuse, fusible, groups, place_scale

__all__ = ["smoothquant"]

_OBJECTIVE = "largest over mean channel of the input"


def smoothquant(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    select: Select = "*",
    alpha: float = 0.5,
    fuse: str = "auto",
    dynamic: bool = False,
    po2: bool = False,
    observer: str = "minmax",
) -> Recovery:
    """Divide each input channel j of the selected products by ``s_j = max|x_j|**alpha /
    max|w_j|**(1 - alpha)`` and multiply the weights by it: the function stays, up to rounding, and
    the input's outlying channels become easier to cast.

    ``batches`` are model inputs; ``max|x_j|`` is over all of them, or, with ``dynamic``, over each
    call's own input. ``s`` goes into the parameters of the operation that feeds the selected ones,
    a norm or a product, perhaps through a ReLU, where one batch proves that it feeds nothing else
    (``fuse="auto"``); otherwise it is applied before the casts of an emulated operation
    (``"never"``: always so; ``"only"``: what cannot be fused is left). ``po2`` rounds ``s`` to
    powers of two, so that no bit of the exact function changes. Channels that are zero have
    ``s = 1``. Static formats that are touched are calibrated anew by ``observer``.

    ``select`` is one or several patterns as rules have them, of linear and convolution operations
    unless they name another kind (``"*:matmul"``). Source: Xiao and others, SmoothQuant, arXiv
    2211.10438.

    >>> import dovetail as dv
    >>> net = nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2)).double()
    >>> x = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    >>> y = net(x)
    >>> done = dv.smoothquant(net, [x])
    >>> done["1"].what, bool((net(x) - y).abs().max() < 1e-12)
    ('scale in 0', True)
    >>> done.undo()
    """
    if not 0.0 <= alpha <= 1.0:
        raise DovetailError(f"smoothquant: alpha={alpha} lies in 0 (all in the input) to 1")
    check_fuse(fuse)
    check_observer(observer)
    if dynamic and (po2 or fuse == "only"):
        raise DovetailError(
            "smoothquant: dynamic=True finds its scale anew at every call: it is "
            "neither fused nor rounded to powers of two"
        )
    inputs = Batches(batches, model)
    found = operations(model, inputs)
    chosen = found.select("smoothquant", select, PRODUCTS, also=("matmul",))
    with Work("smoothquant", _OBJECTIVE) as work:
        if dynamic:
            _dynamic(work, chosen, alpha)
            changed = chosen
        else:
            largest = _Largest()
            watch_exact(model, inputs, chosen, largest.see, "smoothquant: channels")
            changed = []
            parts = groups(model, inputs, found, chosen, fuse)
            for group in fusible(work, parts, fuse):
                _smooth(work, group, largest, alpha, po2)
                changed += group.everyone
        find_ranges(work, model, inputs, changed, observer)
    return work.result


class _Largest:
    """The largest magnitude of each input channel, and of the weights that it meets."""

    def __init__(self) -> None:
        self.x: dict[Operation, Tensor] = {}
        self.weight: dict[Operation, Tensor] = {}

    def see(self, op: Operation, call: Call | OpCall, _: Tensor) -> None:
        assert isinstance(call, Call)
        if op.site is not None:
            call = transformed(op.site, op.module, call)
        pairs = (
            (self.x, largest_inputs(call.x, call.geometry.spatial)),
            (self.weight, largest_weights(call.weight, op.kind, op.groups)),
        )
        for largest, value in pairs:
            before = largest.get(op)
            largest[op] = value if before is None else torch.maximum(before, value)
            if not bool(torch.isfinite(value).all()):
                raise DovetailError(f"smoothquant: {op.key} was given values that are not finite")


def _dynamic(work: Work, chosen: Iterable[Operation], alpha: float) -> None:
    for op in chosen:
        if op.site is None:
            raise DovetailError(
                f"smoothquant: dynamic=True finds the scale of {op.key} before its casts at every "
                "call: apply a recipe to the model first"
            )
        work.journal.save(op.module)
        add_transform(op.site, op.module, "smooth_dynamic", {"alpha": torch.tensor(alpha)})
        work.note(op.key, "scale of each call before its casts")


def _smooth(work: Work, group: Group, largest: _Largest, alpha: float, po2: bool) -> None:
    x = largest.x[group.takers[0]]
    weight = torch.stack([largest.weight[op] for op in group.takers]).amax(0)
    scale = smoothing(x, weight, alpha)
    scale = torch.exp2(torch.round(torch.log2(scale))) if po2 else scale
    scale = scale.to(weight.dtype)
    what = place_scale(work, group, scale)
    for op in group.takers:
        work.note(op.key, what, _outlying(x), _outlying(x / scale))


def _outlying(channels: Tensor) -> float:
    mean = float(channels.double().mean())
    return float(channels.max()) / mean if mean > 0 else 1.0
