"""Accumulators in an emulated model: floating-point products, and the count of overflows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dovetail.accumulators import Accumulator
from dovetail.emulation.block_products import multiplies_blocks, with_random_casts
from dovetail.emulation.calls import Call
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.planned import PlannedOp
from dovetail.emulation.smooth import with_exact_gradient
from dovetail.emulation.weights import prepared
from dovetail.formats import IntFormat
from dovetail.kernels import block
from dovetail.kernels.accumulate import Totals
from dovetail.kernels.accumulate_values import accumulate_values, value_totals
from dovetail.kernels.accumulated_mac import code_totals
from dovetail.kernels.float_torch import float_totals
from dovetail.kernels.layer import code_range
from dovetail.kernels.realisation import Operands
from dovetail.multipliers import FloatMultiplier

__all__ = ["Counter", "accumulated", "counters"]


def accumulated(call: Call, acc: Accumulator) -> Tensor:
    """The call with its floating-point products summed by ``acc``.

    The gradient is that of the exact product: its value is added and subtracted again.
    """
    plain = call.plain
    x, weight = _operands(plain.kind, plain.x.detach(), plain.weight.detach())
    bias = None if call.bias is None else call.bias.detach()
    value = accumulate_values(x, weight, bias, plain.geometry, acc)
    if call.x.dim() == 1:
        value = value.squeeze(0)
    return with_exact_gradient(value, call)


def _operands(kind: str, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """``x [..., M, K]`` and ``weight [..., K, N]``, or a convolution's operands as they are."""
    if kind in ("linear", "matmul"):
        return torch.atleast_2d(x), weight.mT if kind == "linear" else weight
    return x, weight


@dataclass(frozen=True)
class Counter:
    """What the registers of one operation went through, over all its calls.

    ``overflows`` of its ``additions`` had an exact sum beyond the register's range, before it was
    wrapped, clamped or made infinite; they belong to ``overflowed`` of its ``outputs``.

    >>> Counter(additions=200, overflows=3).rate
    0.015
    """

    additions: int = 0
    overflows: int = 0
    outputs: int = 0
    overflowed: int = 0

    @property
    def rate(self) -> float:
        """Overflows per addition."""
        return self.overflows / max(1, self.additions)

    def plus(self, found: Totals) -> Counter:
        """This count and that of one more call.

        >>> Counter().plus(Totals(torch.tensor([127]), torch.tensor([2]), 9))
        Counter(additions=9, overflows=2, outputs=1, overflowed=1)
        """
        assert found.overflows is not None
        return Counter(
            self.additions + found.additions * found.total.numel(),
            self.overflows + int(found.overflows.sum()),
            self.outputs + found.total.numel(),
            self.overflowed + int((found.overflows > 0).sum()),
        )


@contextmanager
def counters(model: nn.Module) -> Iterator[dict[str, Counter]]:
    """Within, what overflows in an emulated model is counted: operation key to :class:`Counter`.

    Every sum is formed once more, step by step, so this is for looking, not for training. Also a
    register that acts at the end, or wraps, counts each sum that it cannot hold on the way: for
    ``end`` that is the last one only.

    >>> import dovetail as dv
    >>> net = nn.Linear(256, 4)
    >>> x = torch.ones(1, 256)
    >>> plan = dv.apply_(net, dv.Recipe(dv.rule("*", input="int8", weight="int8", acc="int16")), x)
    >>> with counters(net) as found:
    ...     y = net(x)
    >>> found["."].additions
    1024
    """
    from dovetail.emulation.taps import MacCall, tap

    counts: dict[str, Counter] = {}

    def watch(op: PlannedOp, call: MacCall) -> None:
        acc = op.arithmetic.acc
        if acc is not None:
            counts[op.key] = counts.get(op.key, Counter()).plus(_totals(call, acc))

    def _totals(call: MacCall, acc: Accumulator) -> Totals:
        arithmetic, kind = call.site.arithmetic, call.call.kind
        first, second = arithmetic.input, arithmetic.weight
        if isinstance(first, IntFormat) and isinstance(second, IntFormat):
            a, w, zero = call.codes()
            operands = Operands(code_range(first), code_range(second), a.device.type)
            w = w.mT if kind == "matmul" else w
            return code_totals(a, w, arithmetic.code_multiplier, operands, acc, call.geometry, zero)
        ready = prepared(call.site, call.module, call.call)
        in_blocks = multiplies_blocks(arithmetic, ready)
        if in_blocks:
            ready = with_random_casts(call.site, call.module, ready)
        x, weight = ready.plain.x.detach(), ready.weight.detach()
        if in_blocks:
            if kind == "matmul":
                return block.matmul_totals(x, weight, first, second, acc)
            return block.totals(x, weight, first, second, call.geometry, acc)
        if first is not None:
            x = cast_slot(x, first, "input", call.site, call.module)
        if second is not None:
            weight = cast_slot(weight, second, "weight", call.site, call.module)
        x, weight = _operands(kind, x, weight)
        if isinstance(arithmetic.mul, FloatMultiplier):
            return float_totals(x, weight, call.geometry, arithmetic.mul, acc, counting=True)
        return value_totals(x, weight, call.geometry, acc, counting=True)

    with tap(model, watch):
        yield counts
