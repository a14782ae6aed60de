"""AWQ: weights that meet large inputs are scaled up before they are rounded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dovetail._numbers import is_whole
from dovetail.emulation.transforms import add_transform, clipped, multiplied
from dovetail.errors import DovetailError
from dovetail.recovery.batches import Batches, quiet
from dovetail.recovery.gram import Gram, grams, weight_error
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import PRODUCTS, Operation, Select, operations
from dovetail.recovery.ranges import check_observer, find_ranges
from dovetail.recovery.rounding import rounded_weight, rounds_rows_alone, weight_formats
from dovetail.recovery.scaling import Group, check_fuse, fusible, groups, place_scale

__all__ = ["awq"]

_CLIPS = tuple(1 - i / 20 for i in range(1, 11))  # down to half of the range


def awq(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    select: Select = "*",
    grid: int = 20,
    clip: bool = False,
    fuse: str = "auto",
    observer: str = "minmax",
) -> Recovery:
    """Scale the input channels of the selected products' weights so that rounding them costs their
    output least: ``s = size**alpha``, where ``size`` is the mean magnitude of each input channel
    and ``alpha`` the best of ``grid`` values from 0 on, ``s`` divided by ``sqrt(max(s) min(s))``.
    Inputs are divided by ``s``, so the function stays.

    The objective is the squared error of the layer's output that comes of rounding its weight
    alone (to its storage, then to the format that it multiplies in), over all batches, relative to
    the squared output; it is never larger than without, as ``alpha = 0`` is tried, too. ``clip``
    then looks for the best bound of each output channel's weights (of the whole weight where its
    format has one scale), from their largest down to half of it. ``fuse`` and ``observer`` are as
    in :func:`dovetail.smoothquant`; products that share a fused scale share ``alpha``. Refused: a
    product whose weight has no format. Source: Lin and others, AWQ, arXiv 2306.00978.

    >>> import dovetail as dv
    >>> net, x = nn.Sequential(nn.Linear(3, 1)), torch.tensor([[9.0, 1.0, 1.0]])
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[0.2, 1.0, -0.7]]))
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule("*", weight="int3")), x)
    >>> done = dv.awq(net, [x])
    >>> done["0"].after < done["0"].before
    True
    """
    check_fuse(fuse)
    check_observer(observer)
    if not is_whole(grid) or grid < 1:
        raise DovetailError(f"awq: grid={grid!r} is a number of values to try, such as 20")
    inputs = Batches(batches, model)
    found = operations(model, inputs)
    chosen = found.select("awq", select, PRODUCTS)
    for op in chosen:
        if not weight_formats(op):
            raise DovetailError(
                f"awq: the weight of {op.key} has no format that it is rounded to: apply a recipe "
                "that gives it one, or select= others"
            )
    with Work("awq", "squared error of the output by rounding the weight") as work:
        parts = fusible(work, groups(model, inputs, found, chosen, fuse), fuse)
        with quiet(model):
            changed = _carry_out(work, model, inputs, parts, grid, clip)
        find_ranges(work, model, inputs, changed, observer)
    return work.result


class _Layer:
    """One product, and what rounding its weight costs."""

    def __init__(self, op: Operation, gram: Gram) -> None:
        self.op, self.weight = op, gram.weight
        self.gram: Gram | None = gram
        self.power = max(float(weight_error(gram, self.weight).sum()), 1e-300)
        self.before = self.after = self.error(None) / self.power

    def errors(self, scale: Tensor | None, bound: Tensor | None = None) -> Tensor:
        """The squared error of each output."""
        assert self.gram is not None
        op, value = self.op, self.weight
        value = value if scale is None else multiplied(value, scale, op.kind, op.groups)
        value = rounded_weight(op, value if bound is None else clipped(value, bound))
        value = value if scale is None else multiplied(value, 1 / scale, op.kind, op.groups)
        return weight_error(self.gram, value - self.weight)

    def error(self, scale: Tensor | None) -> float:
        return float(self.errors(scale).sum())

    def settle(self, scale: Tensor, clip: bool) -> Tensor | None:
        """The best bound of the scaled weights, if any is wanted and better than none."""
        errors = self.errors(scale)
        self.after = float(errors.sum()) / self.power
        if not clip:
            return None
        rows = rounds_rows_alone(self.op)
        scaled = multiplied(self.weight, scale, self.op.kind, self.op.groups).abs().flatten(1)
        largest = scaled.amax(1) if rows else scaled.amax()
        bound, least = largest, errors if rows else errors.sum()
        for share in _CLIPS:
            found = self.errors(scale, largest * share)
            found = found if rows else found.sum()
            bound = torch.where(found < least, largest * share, bound)
            least = torch.minimum(found, least)
        self.after = float(least.sum()) / self.power
        return bound if bool((bound < largest).any()) else None


def _best_scale(layers: Sequence[_Layer], grid: int) -> Tensor:
    """The scale of least error; the first of equals, so that none is preferred."""
    gram = layers[0].gram
    assert gram is not None
    size = gram.size
    size = torch.where(size > 0, size, torch.ones_like(size))
    best, least = torch.ones_like(size), float("inf")
    for i in range(grid):
        scale = size ** (i / grid)
        scale = (scale / (scale.max() * scale.min()).sqrt()).to(layers[0].weight.dtype)
        error = sum(layer.error(scale) for layer in layers)
        if error < least:
            best, least = scale, error
    return best


def _carry_out(
    work: Work,
    model: nn.Module,
    batches: Batches,
    parts: list[Group],
    grid: int,
    clip: bool,
) -> list[Operation]:
    """Decide for every group first, on the model as it is, and change it then."""
    order = [op for group in parts for op in group.takers]
    stream = grams(model, batches, order, "awq")
    decided: list[tuple[Group, list[_Layer], Tensor, list[Tensor | None]]] = []
    for group in parts:
        layers = [_Layer(*next(stream)) for _ in group.takers]
        scale = _best_scale(layers, grid)
        bounds = [layer.settle(scale, clip) for layer in layers]
        for layer in layers:
            layer.gram = None  # it is the bulk
        decided.append((group, layers, scale, bounds))
    changed: list[Operation] = []
    for group, layers, scale, bounds in decided:
        what = "left as it is"
        if bool((scale != 1).any()):
            what = place_scale(work, group, scale)
            changed += group.everyone
        for layer, bound in zip(layers, bounds, strict=True):
            words = what
            if bound is not None:
                site = layer.op.site
                assert site is not None
                work.journal.save(layer.op.module)
                add_transform(site, layer.op.module, "clip", {"bound": bound})
                words = f"{what}, clipped"
            work.note(layer.op.key, words, layer.before, layer.after)
    return changed
