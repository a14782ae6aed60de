"""GPTQ: what rounding one weight does to a layer's output is made up for by those after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation.sparsifying import current_mask, sparse_weight
from dovetail.emulation.transforms import add_transform
from dovetail.emulation.weights import changing
from dovetail.errors import DovetailError
from dovetail.kernels.mask_library import mask_of
from dovetail.kinds import block_axis
from dovetail.recovery.batches import Batches, quiet
from dovetail.recovery.columns import Columns, Sharing, sharing_of
from dovetail.recovery.compensation import Layout, compensate, inverse_factor, layout_of
from dovetail.recovery.gram import Gram, grams, weight_error
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import PRODUCTS, Operation, Select, operations
from dovetail.recovery.rounding import rounded_weight, rounds_rows_alone, weight_formats
from dovetail.sparsity import NofM, TopK

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
    if isinstance(block, bool) or not isinstance(block, int) or block < 1:
        raise DovetailError(f"gptq: block={block!r} is a number of columns, such as 128")
    inputs = Batches(batches, model)
    found = operations(model, inputs)
    chosen = found.select("gptq", select, PRODUCTS)
    for op in chosen:
        if op.site is None or not (weight_formats(op) or op.site.sparsity):
            raise DovetailError(
                f"gptq: the weight of {op.key} has no format that it is rounded to, and no "
                "sparsity: apply a recipe that gives it one, or select= others"
            )
        if "smooth_dynamic" in op.site.transforms:
            raise DovetailError(
                f"gptq: the weight of {op.key} is scaled by each call's own input: undo that "
                "recipe first, or select= others"
            )
    shared = {op: sharing_of(op, "gptq") for op in chosen}
    users = [id(op.weight.parameter) for op in found.by_place.values() if op.weight]
    with Work("gptq", "squared error of the output by its weight") as work, quiet(model):
        # The model is changed at the end, as what follows is measured on the exact one.
        decided: list[tuple[_Layer, _Found]] = []
        for op, gram in grams(model, inputs, chosen, "gptq"):
            layer = _Layer(op, gram, shared[op], users)
            with torch.no_grad():
                decided.append((layer, layer.solve(act_order, damp, block)))
        for layer, result in decided:
            what = layer.place(work, result)
            work.note(layer.op.key, what, result.before, result.after)
    return work.result


@dataclass
class _Found:
    """What a layer's weight becomes, ``None`` if it stays, and what that is worth."""

    weight: Tensor | None
    before: float
    after: float
    kept: int = 0


class _Layer:
    """One product: the weight that it has, and what its sparsity and formats make of one."""

    def __init__(self, op: Operation, gram: Gram, sharing: Sharing, users: list[int]) -> None:
        assert op.site is not None
        self.op, self.gram, self.sharing, self.site = op, gram, sharing, op.site
        held = None if op.shared or changing(op.site, "weight") else op.weight
        #: The parameter that takes the result, if it is this operation's own and nothing changes it
        self.held = held if held is not None and users.count(id(held.parameter)) == 1 else None
        # The Gram matrix's weight is sparse already.
        self.weight = gram.weight if self.held is None else self.held.read().clone()

    def solve(self, act_order: bool, damp: float, block: int) -> _Found:
        weight = self.weight
        power = max(float(weight_error(self.gram, weight).sum()), 1e-300)
        found, least = weight, self._errors(weight)
        before = float(least.sum())
        replaced = torch.zeros_like(least, dtype=torch.bool)
        for choose in (False, True) if self._follows else (False,):
            tried = self._written(act_order, damp, block, choose)
            errors = self._errors(tried)
            better = errors < least
            if not self._rows_alone():
                better = (errors.sum() < least.sum()).expand(len(errors))
            found = torch.where(better.view(-1, *[1] * (weight.dim() - 1)), tried, found)
            least, replaced = self._errors(found), replaced | better
        self.gram = Gram()  # it is the bulk
        if not bool(replaced.any()) or float(least.sum()) > before:
            return _Found(None, before / power, before / power)
        kept = int((~replaced).sum())
        return _Found(found, before / power, float(least.sum()) / power, kept)

    def place(self, work: Work, found: _Found) -> str:
        if found.weight is None:
            return "left, as rounding to nearest is no worse"
        rest = f", {found.kept} outputs as they were" if found.kept else ""
        if self.held is not None:
            self.held.write(found.weight, work.journal)
            return f"weight rounded{rest}"
        work.journal.save(self.op.module)
        add_transform(self.site, self.op.module, "weight", {"value": found.weight})
        return f"weight rounded, in a hidden tensor{rest}"

    def _errors(self, weight: Tensor) -> Tensor:
        """The squared error of each output, with the weight as emulation multiplies it."""
        sparse = weight
        if self.held is not None:
            sparse = sparse_weight(self.site, self.op.module, weight)
        return weight_error(self.gram, rounded_weight(self.op, sparse) - self.weight)

    def _rows_alone(self) -> bool:
        chosen = self.site.sparsity
        pattern = None if chosen is None or chosen.fixed else chosen.pattern
        rows = pattern is None or (isinstance(pattern, NofM) and pattern.axis in (None, 1, -1))
        rows = rows or (isinstance(pattern, TopK) and pattern.per_output)
        return rows and rounds_rows_alone(self.op)

    def _written(self, act_order: bool, damp: float, block: int, choose: bool) -> Tensor:
        """The weight with every column rounded in turn, its mask chosen anew or as it is."""
        assert self.gram.matrix is not None
        groups = len(self.gram.matrix)
        layouts = [self._layout(m.diagonal(), act_order) for m in self.gram.matrix]
        factors = [
            inverse_factor(matrix, layout.order, damp)
            for matrix, layout in zip(self.gram.matrix, layouts, strict=True)
        ]
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
