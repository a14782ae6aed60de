"""Products of integer codes, as a model multiplies them: what the recipes on a multiplier see."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dovetail.analysis.operands import OperandCounts, count_operands
from dovetail.emulation import PlannedOp, Watched, tap
from dovetail.emulation.operand_codes import OperandCodes, operand_codes
from dovetail.emulation.taps import MacCall
from dovetail.emulation.weights import prepared
from dovetail.errors import DovetailError
from dovetail.formats.realise import is_stochastic
from dovetail.multipliers import Multiplier
from dovetail.multipliers.operands import operand_values
from dovetail.ops import conv_codes, linear_codes
from dovetail.recovery.batches import Batches, quiet
from dovetail.recovery.operations import PRODUCTS, Operation, Select, operations

__all__ = [
    "CodeCall",
    "by_output",
    "code_operations",
    "counted_operands",
    "tabulated",
    "watch_codes",
]


class CodeCall:
    """One call of a product: its ``input`` and ``weight`` as codes, and its sums ``[N, samples]``
    under any multiplier."""

    def __init__(self, seen: MacCall) -> None:
        self.seen = seen
        self.call = prepared(seen.site, seen.module, seen.call)
        self.input = self.codes(self.call.plain.x, "input")
        self.weight = self.codes(self.call.weight, "weight")

    def codes(self, x: Tensor, slot: str) -> OperandCodes:
        return operand_codes(self.seen.site, self.seen.module, x.detach(), slot)

    @property
    def weight_scale(self) -> Tensor:
        """``[N]`` in float64: what one unit of each output's sum is worth, the input's scale
        aside."""
        scale = self.weight.scale.double()
        return scale.expand(len(self.weight.codes)) if scale.dim() == 0 else scale

    def sums(self, mul: str | Multiplier, weight: Tensor | None = None) -> Tensor:
        """The sums of products with these codes of the weight, exactly, as float64."""
        a, w = self.input.codes, self.weight.codes if weight is None else weight
        g = self.call.geometry
        if g.spatial == 0:
            y = linear_codes(a, w, mul)
        else:
            y = conv_codes(
                a, w, mul, g.stride, g.padding, g.dilation, g.groups, pad_code=self.input.zero
            )
        return by_output(y, g.spatial).double()


def tabulated(mul: Multiplier) -> tuple[Tensor, Tensor, Tensor]:
    """All products, and the operands of their rows and columns, in float64, by byte."""
    first, second = (
        torch.from_numpy(operand_values(bits, mul.signed)).double() for bits in mul._width()
    )
    return mul.table().double(), first, second


def by_output(y: Tensor, spatial: int) -> Tensor:
    """``[N, samples]`` of a result ``[..., N]`` or ``[B, N, *out]``."""
    return y.movedim(1 if spatial else -1, 0).flatten(1)


def code_operations(
    recipe: str, model: nn.Module, batches: Batches, select: Select
) -> list[Operation]:
    """The selected products; refused unless all of them multiply codes of up to 8 bits."""
    found = operations(model, batches)
    if not found.emulated:
        raise DovetailError(f"{recipe}: this model is not emulated: call dv.apply_ on it first")
    chosen = found.select(recipe, select, PRODUCTS)
    for op in chosen:
        assert op.site is not None
        arithmetic = op.site.arithmetic
        if not arithmetic.multiplies_codes:
            raise DovetailError(
                f"{recipe}: {op.key} multiplies no integer codes: give input and weight formats "
                "such as 'int8', or select= others"
            )
        for slot, fmt in (("input", arithmetic.input), ("weight", arithmetic.weight)):
            if fmt is not None and is_stochastic(fmt):
                raise DovetailError(
                    f"{recipe}: the codes of {op.key} are drawn, as {slot}={fmt} rounds "
                    "stochastically: give a format that rounds to nearest, or select= others"
                )
        low_high = arithmetic.code_ranges
        if any(high - low > 255 for low, high in low_high):
            raise DovetailError(
                f"{recipe} tabulates products of up to 8 x 8 bits, and {op.key} multiplies "
                f"{arithmetic.input} by {arithmetic.weight}: select= others"
            )
    return chosen


def watch_codes(
    model: nn.Module,
    batches: Batches,
    ops: Sequence[Operation],
    see: Callable[[Operation, PlannedOp, CodeCall], None],
    text: str,
) -> None:
    """Show every call of some operations, as the emulated model makes them."""
    by_key = {op.site.op.key: op for op in ops if op.site is not None}

    def watch(planned: PlannedOp, seen: Watched) -> None:
        op = by_key.get(planned.key)
        if op is None:
            return
        assert isinstance(seen, MacCall)
        if not bool(torch.isfinite(seen.x).all()):
            raise DovetailError(f"{text}: {op.key} was given values that are not finite")
        see(op, planned, CodeCall(seen))

    with quiet(model), tap(model, watch):
        for batch in batches.over(text):
            model(*batch.args, **batch.kwargs)


def counted_operands(
    recipe: str, model: nn.Module, batches: Batches, ops: Sequence[Operation]
) -> dict[Operation, OperandCounts]:
    """How often each code was multiplied in each operation, over all batches."""
    found: dict[Operation, OperandCounts] = {}

    def see(op: Operation, planned: PlannedOp, call: CodeCall) -> None:
        one = count_operands(planned, call.seen)
        found[op] = one if op not in found else found[op] + one

    watch_codes(model, batches, ops, see, f"{recipe}: operands")
    for op in ops:
        if op not in found or not found[op].first.any():
            raise DovetailError(f"{recipe}: no batch reached {op.key}")
    return found
