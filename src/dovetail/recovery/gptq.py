"""GPTQ: what rounding one weight does to a layer's output is made up for by those after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail._numbers import is_whole
from dovetail.emulation.sparsifying import current_mask
from dovetail.errors import DovetailError
from dovetail.kernels.mask_library import mask_of
from dovetail.kinds import block_axis
from dovetail.recovery.columns import Columns
from dovetail.recovery.compensation import Layout, compensate, inverse_factor, layout_of
from dovetail.recovery.handle import Recovery
from dovetail.recovery.operations import Select
from dovetail.recovery.rewriting import Rewriting, Rewritten, rewrite
from dovetail.sparsity import NofM

__all__ = ["gptq"]


def gptq(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    select: Select = "*",
    act_order: bool = False,
    damp: float = 0.01,
    block: int = 128,
) -> Recovery:
    """Round the weights of the selected products of an emulated model column by column, each time
    changing the columns still to come so that the layer's output changes least.

    Each column is rounded as the weight's format has it: scales of groups and of blocks are chosen
    when the first of their columns is reached, and stay. Where the rule has sparsity that follows
    the weight's size, the mask is chosen anew by what dropping a weight costs, ``n:m`` on the way,
    as SparseGPT does, where that is better than the mask as it is; any other is respected.
    ``act_order`` takes the columns of largest inputs first, groups staying together; ``damp`` times
    their mean square is added to the squares of the inputs; ``block`` columns are brought up to
    date at a time, for speed.

    The inputs are those of the exact model. The objective is the squared error of the layer's
    output that comes of sparsity and of rounding its weight, relative to the squared output.
    Outputs whose error would grow keep the weights that they had, so it never grows, and the table
    says how many. The result is in the parameter, in a form that the emulation rounds to just the
    values chosen, or, where the parameter is shared, computed or transformed at every call, in a
    hidden tensor in its place, which training does not change. Source: Frantar and others, GPTQ,
    arXiv 2210.17323, and SparseGPT, arXiv 2301.00774.

    >>> import dovetail as dv
    >>> net = nn.Sequential(nn.Linear(2, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[0.4, 1.0]]))
    >>> x = torch.tensor([[1.0, 0.0], [0.9, 1.0]])
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule(weight="fixed(4, 0)")), x)
    >>> done = dv.gptq(net, [x])
    >>> done["0"].after <= done["0"].before
    True
    """
    if isinstance(damp, bool) or not 0 < damp < float("inf"):
        raise DovetailError(f"gptq: damp={damp} is a positive share of the mean square: try 0.01")
    if not is_whole(block) or block < 1:
        raise DovetailError(f"gptq: block={block!r} is a number of columns, such as 128")
    return rewrite(
        "gptq", model, batches, select, _Layer, lambda layer: layer.solve(act_order, damp, block)
    )


class _Layer(Rewriting):
    """One product, its weight rounded column by column."""

    def solve(self, act_order: bool, damp: float, block: int) -> Rewritten:
        assert self.gram.matrix is not None
        layouts = [self._layout(m.diagonal(), act_order) for m in self.gram.matrix]
        factors = [
            inverse_factor(matrix, layout.order, damp)
            for matrix, layout in zip(self.gram.matrix, layouts, strict=True)
        ]
        choices = (False, True) if self._follows else (False,)
        return self.best(self._written(layouts, factors, block, choose) for choose in choices)

    def _written(
        self, layouts: list[Layout], factors: list[Tensor], block: int, choose: bool
    ) -> Tensor:
        """The weight with every column rounded in turn, its mask chosen anew or as it is."""
        groups = len(factors)
        mask = self._mask(layouts, factors, choose)
        whole = self.weight if mask is None else self.weight * mask
        found = torch.empty_like(self.weight.flatten(1))
        pattern = self.site.sparsity_text if choose and self._run > 1 else ""
        for part, layout, factor in zip(
            torch.arange(len(found)).chunk(groups), layouts, factors, strict=True
        ):
            rows = slice(int(part[0]), int(part[-1]) + 1)
            weight = self.weight.flatten(1)[rows][:, layout.order].mT.contiguous()
            kept = None if mask is None else mask.flatten(1)[rows][:, layout.order].mT.contiguous()
            columns = Columns(self.op, self.sharing, weight, whole, kept)
            compensate(weight.double(), factor, layout, columns, block, pattern)
            found[rows] = found[rows].index_copy(1, layout.order, columns.written.mT)
        return found.view_as(self.weight)

    def _layout(self, size: Tensor, act_order: bool) -> Layout:
        share = self.sharing.size
        shape = self.weight.shape
        layout = layout_of(shape, share, self._run, size, act_order)
        if layout is None:
            raise DovetailError(
                f"gptq: {self.op.key} keeps weights in runs of {self._run} and has scales for "
                f"{share} at a time: of the two numbers one is to divide the other"
            )
        return layout

    @property
    def _follows(self) -> bool:
        """Whether the mask is chosen of the weight, by its size."""
        chosen = self.site.sparsity
        if self.held is None or chosen is None or chosen.fixed or chosen.pattern.draws:
            return False
        return chosen.score in ("magnitude", "wanda")

    @property
    def _run(self) -> int:
        """How many neighbours a mask is chosen among on the way; 1 if it is chosen before."""
        chosen = self.site.sparsity
        pattern = None if chosen is None else chosen.pattern
        if not self._follows or not isinstance(pattern, NofM) or pattern.axis is not None:
            return 1
        return pattern.of

    def _mask(self, layouts: list[Layout], factors: list[Tensor], choose: bool) -> Tensor | None:
        """What is kept to begin with."""
        chosen, weight = self.site.sparsity, self.weight
        if chosen is None:
            return None
        if self.held is None:
            return weight != 0
        if not choose:
            return current_mask(self.site, self.op.module, weight)
        if self._run > 1:
            return torch.ones_like(weight, dtype=torch.bool)
        costs = []
        for layout, factor in zip(layouts, factors, strict=True):
            cost = torch.empty_like(factor[0])
            costs.append(cost.index_copy(0, layout.order, factor.diagonal().square()))
        rows = weight.double().flatten(1).unflatten(0, (len(costs), -1)).square()
        scores = (rows / torch.stack(costs)[:, None]).view(weight.shape)
        axis = block_axis(self.op.kind, "weight")
        return mask_of(scores, self.site.sparsity_text, axis, self.site.stream)
