"""``dv.counters``: what accumulators and casts of an emulated model cannot hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from dovetail.emulation.accumulating import totals
from dovetail.emulation.casting import reported_cast
from dovetail.emulation.operators import OpCall, slot_of
from dovetail.emulation.planned import PlannedOp
from dovetail.emulation.sparsifying import sparse_weight
from dovetail.emulation.taps import MacCall, Watched, tap
from dovetail.emulation.transforms import prepared_norm
from dovetail.emulation.weights import prepared, uncast
from dovetail.errors import DovetailError
from dovetail.formats import Format
from dovetail.formats.nan import has_nan, refuse_nan
from dovetail.kernels.accumulate import Totals

__all__ = ["CastCounter", "Counter", "counters"]


@dataclass(frozen=True)
class CastCounter:
    """What became of the values that one slot's casts were given.

    Of all ``values``, ``saturated`` finite ones lay beyond the format's range and became its
    largest or smallest; ``overflows`` finite ones became infinite or NaN, as formats that do not
    saturate have it, and blocks that hold NaN or an infinity; ``flushed`` ones became zero and were
    not. ``infinite`` and ``nan`` ones were so when they came; ``nan_lost`` of these met a format
    that has no NaN.

    >>> CastCounter(values=4, saturated=1) + CastCounter(values=4)
    CastCounter(values=8, saturated=1, overflows=0, flushed=0, infinite=0, nan=0, nan_lost=0)
    """

    values: int = 0
    saturated: int = 0
    overflows: int = 0
    flushed: int = 0
    infinite: int = 0
    nan: int = 0
    nan_lost: int = 0

    def __add__(self, other: CastCounter) -> CastCounter:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return CastCounter(*(a + b for a, b in pairs))

    @staticmethod
    def of(x: Tensor, y: Tensor, inside: Tensor, fmt: Format) -> CastCounter:
        """The cast of ``x`` to ``y``, ``inside`` the range where rounding to nearest stays so.

        >>> from dovetail.formats import format
        >>> x, y = torch.tensor([9.0, 0.1, torch.nan]), torch.tensor([6.0, 0.0, torch.nan])
        >>> found = CastCounter.of(x, y, x < 7, format("fp4_e2m1fn"))
        >>> found.saturated, found.flushed, found.nan_lost
        (1, 1, 1)
        """
        finite, kept, nan = torch.isfinite(x), torch.isfinite(y), int(torch.isnan(x).sum())
        return CastCounter(
            values=x.numel(),
            saturated=int((finite & kept & ~inside).sum()),
            overflows=int((finite & ~kept).sum()),
            flushed=int((finite & (x != 0) & (y == 0)).sum()),
            infinite=int(torch.isinf(x).sum()),
            nan=nan,
            nan_lost=0 if has_nan(fmt) else nan,
        )


@dataclass(frozen=True)
class Counter:
    """What the registers and the casts of one operation went through, over all its calls.

    ``overflows`` of its ``additions`` had an exact sum beyond the register's range, before it was
    wrapped, clamped or made infinite; they belong to ``overflowed`` of its ``outputs``. All are 0
    where no accumulator is emulated. ``casts`` has a :class:`CastCounter` for every slot that is
    given a format.

    >>> Counter(additions=200, overflows=3).rate
    0.015
    """

    additions: int = 0
    overflows: int = 0
    outputs: int = 0
    overflowed: int = 0
    casts: Mapping[str, CastCounter] = field(default_factory=dict, hash=False)

    @property
    def rate(self) -> float:
        """Overflows per addition."""
        return self.overflows / max(1, self.additions)

    def plus(self, found: Totals) -> Counter:
        """This count and that of the registers of one more call.

        >>> Counter().plus(Totals(torch.tensor([127]), torch.tensor([2]), 9)).overflows
        2
        """
        assert found.overflows is not None
        return replace(
            self,
            additions=self.additions + found.additions * found.total.numel(),
            overflows=self.overflows + int(found.overflows.sum()),
            outputs=self.outputs + found.total.numel(),
            overflowed=self.overflowed + int((found.overflows > 0).sum()),
        )

    def plus_cast(self, slot: str, found: CastCounter) -> Counter:
        """This count and that of one more cast.

        >>> Counter().plus_cast("input", CastCounter(values=3)).casts["input"].values
        3
        """
        known = self.casts.get(slot, CastCounter())
        return replace(self, casts={**self.casts, slot: known + found})


@contextmanager
def counters(model: nn.Module, *, strict: bool = False) -> Iterator[dict[str, Counter]]:
    """Within, what an emulated model's accumulators and casts cannot hold is counted.

    Yields operation key to :class:`Counter`, for every operation that is called. ``strict`` refuses
    the first NaN that meets a format without one, naming the operation and the slot.

    Every sum is formed once more, step by step, and every cast is made once more, so this is for
    looking, not for training; a model that nobody looks at pays nothing. Also a register that acts
    at the end, or wraps, counts each sum that it cannot hold on the way: for ``end`` that is the
    last one only. Stochastic roundings are drawn anew for the count; what the model draws is left
    as it is.

    >>> import dovetail as dv
    >>> net = nn.Linear(256, 4)
    >>> x = torch.ones(1, 256)
    >>> plan = dv.apply_(net, dv.Recipe(dv.rule("*", input="int8", weight="int8", acc="int16")), x)
    >>> with counters(net) as found:
    ...     y = net(2 * x)
    >>> found["."].additions, found["."].casts["input"].saturated
    (1024, 256)
    """
    counts: dict[str, Counter] = {}

    @torch.no_grad()
    def watch(op: PlannedOp, call: Watched) -> None:
        if call.raw is None:
            return
        found, acc = counts.get(op.key, Counter()), op.arithmetic.acc
        for slot, x, fmt in _casts(call):
            if strict:
                _refuse(op.key, slot, x, fmt)
            seen, y, inside = reported_cast(x, fmt, slot, call.site, call.module)
            found = found.plus_cast(slot, CastCounter.of(seen, y, inside, fmt))
        if acc is not None and isinstance(call, MacCall):
            found = found.plus(totals(call, acc))
        counts[op.key] = found

    with tap(model, watch):
        yield counts


def _refuse(key: str, slot: str, x: Tensor, fmt: Format) -> None:
    try:
        refuse_nan(x, fmt, "without strict=True they are counted")
    except DovetailError as error:
        raise DovetailError(f"{key}: {slot}: {error}") from None


def _casts(call: Watched) -> Iterator[tuple[str, Tensor, Format]]:
    """Each cast of one emulated call: its slot, what it was given, and the format."""
    arithmetic = call.site.arithmetic
    given = _of_product(call) if isinstance(call, MacCall) else _of_operator(call)
    for slot, value in given:
        if (fmt := getattr(arithmetic, slot)) is not None:
            yield slot, value.detach(), fmt
    if arithmetic.output is not None and call.raw is not None:
        yield "output", call.raw, arithmetic.output


def _of_product(call: MacCall) -> Iterator[tuple[str, Tensor]]:
    """The operands of a product before each of their casts."""
    ready = uncast(call.site, call.module, call.call)
    yield "input", ready.x
    if call.site.arithmetic.weight_storage is not None:
        yield "weight_storage", ready.weight
    yield "weight", prepared(call.site, call.module, call.call).weight
    if ready.bias is not None:
        yield "bias", ready.bias


def _of_operator(call: Watched) -> Iterator[tuple[str, Tensor]]:
    assert isinstance(call.call, OpCall)
    for name, value in prepared_norm(call.site, call.module, call.call).operands.items():
        slot = slot_of(name)
        is_weight = slot == "weight"
        yield slot, sparse_weight(call.site, call.module, value) if is_weight else value
