"""AdaRound: every weight rounded down or up, whichever serves the layer's output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from dovetail._numbers import is_whole
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.sparsifying import current_mask
from dovetail.errors import DovetailError
from dovetail.formats import Format, Rounding
from dovetail.recovery.columns import Columns
from dovetail.recovery.compensation import layout_of
from dovetail.recovery.handle import Recovery
from dovetail.recovery.operations import Select
from dovetail.recovery.rewriting import Rewriting, Rewritten, rewrite
from dovetail.recovery.rounding import weight_formats

__all__ = ["adaround"]

_STRETCH = 0.1  # how far the sigmoid reaches beyond 0 and 1
_WARM = 0.2  # share of the steps before choices are pressed for
_SHARPEST, _SOFTEST = 2.0, 20.0  # powers of the press, from the last step to the first


def adaround(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    select: Select = "*",
    steps: int = 500,
    rate: float = 0.03,
    press: float = 1.0,
) -> Recovery:
    """Round each weight of the selected products of an emulated model down or up, as its layer's
    output needs it, rather than to nearest.

    Between its two neighbours in the weight's format a weight stands at the share
    ``h = clamp(1.2 sigmoid(v) - 0.1, 0, 1)``. ``steps`` steps of Adam at ``rate`` minimise the
    squared error of the layer's output, relative to that of rounding to nearest, plus, after a
    fifth of the steps, ``press`` times the mean of ``1 - |2h - 1|^b``, with ``b`` falling from 20
    to 2; then every ``h`` is 0 or 1. The error is taken from the inputs' Gram matrix, so that every
    step sees all samples; nothing is random. The scales of groups and blocks stay as they are, and
    so do what sparsity takes away and the weights that decide a scale.

    Inputs, objective, and where the result is written are as in :func:`dovetail.recovery.gptq`:
    outputs whose error would grow keep the weights that they had. Source: Nagel and others, Up or
    Down? Adaptive Rounding for Post-Training Quantization, arXiv 2004.10568.

    >>> import dovetail as dv
    >>> net = nn.Sequential(nn.Linear(2, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[0.4, 1.4]]))
    >>> x = torch.tensor([[1.0, 1.0]])
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule(weight="fixed(4, 0)")), x)
    >>> _ = dv.adaround(net, [x])
    >>> net(x)  # the exact sum is 1.8, that of nearest weights 1
    tensor([[2.]], grad_fn=<MmBackward0>)
    """
    if not is_whole(steps) or steps < 1:
        raise DovetailError(f"adaround: steps={steps!r} is a number of steps, such as 500")
    for name, value in (("rate", rate), ("press", press)):
        if isinstance(value, bool) or not 0 < value < float("inf"):
            raise DovetailError(f"adaround: {name}={value} is a positive number")
    return rewrite(
        "adaround", model, batches, select, _Layer, lambda layer: layer.solve(steps, rate, press)
    )


class _Layer(Rewriting):
    """One product, its weight rounded down or up."""

    def solve(self, steps: int, rate: float, press: float) -> Rewritten:
        with torch.enable_grad():
            chosen = self._chosen(steps, rate, press)
        return self.best([self._written(chosen)])

    def _chosen(self, steps: int, rate: float, press: float) -> Tensor:
        """The neighbour of every weight that serves the output best."""
        kept = self._kept
        down, up = (self._rounded(mode) for mode in ("TowardNegative", "TowardPositive"))
        span = torch.where(kept, up - down, 0.0)
        base = torch.where(kept, down, 0.0)
        share = _best_shares(
            self._rows(base - self.weight), self._rows(span), self._matrix, steps, rate, press
        )
        share = share.reshape(self.weight.shape)
        return torch.where(share >= 0.5, base + span, base).to(self.weight.dtype)

    def _rounded(self, mode: str) -> Tensor:
        weight = self.weight
        for slot, fmt in weight_formats(self.op):
            one_way = _rounding(fmt, Rounding(mode))
            if one_way is None:
                raise DovetailError(
                    f"adaround: {slot}={fmt} of {self.op.key} does not round down or up; the "
                    "nearest that does is such as 'int4' or 'mxfp4'"
                )
            weight = cast_slot(weight, one_way, slot, self.site, self.op.module)
        return weight

    @property
    def _kept(self) -> Tensor:
        if self.site.sparsity is None:
            return torch.ones_like(self.weight, dtype=torch.bool)
        if self.held is None:
            return self.weight != 0
        return current_mask(self.site, self.op.module, self.weight)

    @property
    def _matrix(self) -> Tensor:
        return self.gram.rounded(torch.promote_types(self.weight.dtype, torch.float32))

    def _rows(self, weight: Tensor) -> Tensor:
        rows: Tensor = weight.to(self._matrix.dtype).flatten(1)
        return rows.unflatten(0, (len(self._matrix), -1))  # type: ignore[no-any-return]

    def _written(self, chosen: Tensor) -> Tensor:
        """The chosen weight, in a form that its cast leaves as chosen."""
        groups = len(self._matrix)
        size = torch.zeros(self._matrix.shape[-1])
        layout = layout_of(self.weight.shape, self.sharing.size, 1, size, False)
        assert layout is not None
        found = torch.empty_like(self.weight.flatten(1))
        mask = None if self.site.sparsity is None else self._kept
        whole = self.weight if mask is None else self.weight * mask
        for rows in torch.arange(len(found)).chunk(groups):
            weight, choice, kept = (
                None if t is None else t.flatten(1)[rows][:, layout.order].mT.contiguous()
                for t in (whole, chosen, mask)
            )
            assert weight is not None
            assert choice is not None
            columns = Columns(self.op, self.sharing, weight, whole, kept)
            ends = {*layout.shares[1:], len(weight)}
            start = 0
            for j in range(len(weight)):
                if j == start and self.sharing.span == "block":
                    start = min(end for end in ends if end > j)
                    columns.share(j, weight[j:start])
                columns.round(j, choice[j])
            found[rows] = found[rows].index_copy(1, layout.order, columns.written.mT)
        return found.view_as(self.weight)


def _rounding(fmt: Format, mode: Rounding) -> Format | None:
    """``fmt`` with another rounding, that of its elements; ``None`` if it has none."""
    names: list[str] = [field.name for field in fields(fmt)] if is_dataclass(fmt) else []
    changed: Any = fmt
    if "rounding" in names:
        return cast("Format", replace(changed, rounding=mode))
    elements = _rounding(changed.elements, mode) if "elements" in names else None
    return None if elements is None else cast("Format", replace(changed, elements=elements))


def _best_shares(
    below: Tensor, span: Tensor, matrix: Tensor, steps: int, rate: float, press: float
) -> Tensor:
    """How far up each weight goes, ``[groups, N, K]``: its lower neighbour lies ``below`` it, a
    number that is not positive, and the upper one ``span`` higher."""
    free = span > 0
    start = torch.where(free, -below / torch.where(free, span, 1.0), 0.0)
    nearest = below + span * (start >= 0.5)
    scale = ((nearest @ matrix) * nearest).sum().clamp(min=torch.finfo(matrix.dtype).tiny)
    inner = (start + _STRETCH) / (1 + 2 * _STRETCH)
    value = torch.logit(inner).requires_grad_()
    adam = torch.optim.Adam([value], lr=rate)
    for step in range(steps):
        share = ((1 + 2 * _STRETCH) * torch.sigmoid(value) - _STRETCH).clamp(0, 1)
        change = below + span * share.detach()
        # What the squared error's gradient by the change is, without a second product.
        loss = (2 * (change @ matrix) / scale * (span * share)).sum()
        done = (step / steps - _WARM) / (1 - _WARM)
        if done >= 0:
            power = _SOFTEST + (_SHARPEST - _SOFTEST) * done
            undecided = 1 - (2 * share - 1).abs().pow(power)
            loss = loss + press * torch.where(free, undecided, 0.0).sum() / free.sum().clamp(min=1)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return share.detach()
