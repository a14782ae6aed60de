"""A weight rewritten so that rounding it costs the layer's output less, and never more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dovetail.emulation.sparsifying import sparse_weight
from dovetail.emulation.transforms import add_transform
from dovetail.emulation.weights import changing
from dovetail.errors import DovetailError
from dovetail.recovery.batches import Batches, quiet
from dovetail.recovery.columns import Sharing, sharing_of
from dovetail.recovery.gram import Gram, grams, weight_error
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import PRODUCTS, Operation, Select, operations
from dovetail.recovery.rounding import rounded_weight, rounds_rows_alone, weight_formats
from dovetail.sparsity import NofM, TopK

__all__ = ["Rewriting", "Rewritten", "rewrite"]

L = TypeVar("L", bound="Rewriting")


def _check(op: Operation, recipe: str) -> None:
    """Refuse an operation whose weight is not rounded, or not the same at every call."""
    if op.site is None or not (weight_formats(op) or op.site.sparsity):
        raise DovetailError(
            f"{recipe}: the weight of {op.key} has no format that it is rounded to, and no "
            "sparsity: apply a recipe that gives it one, or select= others"
        )
    if "smooth_dynamic" in op.site.transforms:
        raise DovetailError(
            f"{recipe}: the weight of {op.key} is scaled by each call's own input: undo that "
            "recipe first, or select= others"
        )


def rewrite(
    recipe: str,
    model: nn.Module,
    batches: Iterable[Any],
    select: Select,
    kind: type[L],
    solve: Callable[[L], Rewritten],
) -> Recovery:
    """``recipe``: every selected product's weight becomes what ``solve`` makes of it."""
    inputs = Batches(batches, model)
    found = operations(model, inputs)
    chosen = found.select(recipe, select, PRODUCTS)
    for op in chosen:
        _check(op, recipe)
    shared = {op: sharing_of(op, recipe) for op in chosen}
    users = [id(op.weight.parameter) for op in found.by_place.values() if op.weight]
    with Work(recipe, "squared error of the output by its weight") as work, quiet(model):
        # The model is changed at the end, as what follows is measured on the exact one.
        decided: list[tuple[L, Rewritten]] = []
        for op, gram in grams(model, inputs, chosen, recipe):
            layer = kind(op, gram, shared[op], users)
            with torch.no_grad():
                decided.append((layer, solve(layer)))
        for layer, result in decided:
            what = layer.place(work, result)
            work.note(layer.op.key, what, result.before, result.after)
    return work.result


@dataclass
class Rewritten:
    """What a layer's weight becomes, ``None`` if it stays, and what that is worth."""

    weight: Tensor | None
    before: float
    after: float
    kept: int = 0


class Rewriting:
    """One product: the weight that it has, and what its sparsity and formats make of one."""

    def __init__(self, op: Operation, gram: Gram, sharing: Sharing, users: list[int]) -> None:
        assert op.site is not None
        self.op, self.gram, self.sharing, self.site = op, gram, sharing, op.site
        held = None if op.shared or changing(op.site, "weight") else op.weight
        #: The parameter that takes the result, if it is this operation's own and nothing changes it
        self.held = held if held is not None and users.count(id(held.parameter)) == 1 else None
        # The Gram matrix's weight is sparse already.
        self.weight = gram.weight if self.held is None else self.held.read().clone()

    def best(self, candidates: Iterable[Tensor]) -> Rewritten:
        """Of the weight as it is and the candidates the one with the least error, output by output
        where these do not depend on each other."""
        weight = self.weight
        power = max(float(weight_error(self.gram, weight).sum()), 1e-300)
        found, least = weight, self._errors(weight)
        before = float(least.sum())
        replaced = torch.zeros_like(least, dtype=torch.bool)
        for tried in candidates:
            errors = self._errors(tried)
            better = errors < least
            if not self._rows_alone():
                better = (errors.sum() < least.sum()).expand(len(errors))
            found = torch.where(better.view(-1, *[1] * (weight.dim() - 1)), tried, found)
            least, replaced = self._errors(found), replaced | better
        self.gram = Gram()  # it is the bulk
        if not bool(replaced.any()) or float(least.sum()) > before:
            return Rewritten(None, before / power, before / power)
        kept = int((~replaced).sum())
        return Rewritten(found, before / power, float(least.sum()) / power, kept)

    def place(self, work: Work, found: Rewritten) -> str:
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
