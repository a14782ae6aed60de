"""A weight rounded one column at a time, to exactly what its formats make of the whole.

Where weights share a scale, the largest of them decides it. It is held at the value that it had
when the scale was chosen, and the others are bounded by what leaves the scale as it is: so a column
can be rounded beside the largest alone. What is written for a held one is its value before it is
rounded: a cast of the written weight then has the same scales, and gives the values chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats import NVFP4, BlockFormat, ElementFormat, Format, IntFormat, Same
from dovetail.formats.block import PowerScaled
from dovetail.formats.realise import is_stochastic
from dovetail.kernels.mask_library import mask_of
from dovetail.kinds import block_axis
from dovetail.recovery.operations import Operation
from dovetail.recovery.rounding import rounded_weight, weight_formats

__all__ = ["Columns", "Sharing", "sharing_of"]


@dataclass(frozen=True)
class Sharing:
    """Which weights share a scale: ``none``, runs of ``size`` along the axis of blocks
    (``block``), all of one output (``row``), or all (``tensor``)."""

    span: str = "none"
    size: int = 1
    fmt: Format | None = None

    @property
    def both_ends(self) -> bool:
        """Whether the lowest and the highest value make the scale, not the largest magnitude."""
        return isinstance(self.fmt, IntFormat) and (self.fmt.affine or not self.fmt.signed)

    @property
    def over_all(self) -> bool:
        """Whether the largest weight of all has a say in every scale."""
        return self.span == "tensor" or isinstance(self.fmt, NVFP4)


def sharing_of(op: Operation, recipe: str) -> Sharing:
    """How the formats of a weight share scales; refused where a column cannot be rounded alone."""
    found = [s for s in (_sharing(op, *pair, recipe) for pair in weight_formats(op)) if s.fmt]
    if len(found) > 1:
        raise DovetailError(
            f"{recipe}: the weight of {op.key} is stored in {found[0].fmt} and multiplied in "
            f"{found[1].fmt}, each with scales of its own: give it one of them"
        )
    return found[0] if found else Sharing()


def _sharing(op: Operation, slot: str, fmt: Format, recipe: str) -> Sharing:
    assert op.site is not None
    axis = block_axis(op.kind, slot)
    dims = len(op.shapes["weight"])
    why = ""
    if is_stochastic(fmt):
        why = "is drawn anew at every call"
    elif isinstance(fmt, IntFormat):
        channel = fmt.axis_for("weight")
        if slot in op.site.learned:
            return Sharing()
        if fmt.leaves_out:
            why = "finds its range anew in what was rounded"
        elif fmt.group is not None:
            return Sharing("block", fmt.group, fmt) if fmt.group > 1 else Sharing()
        elif channel is None or channel % dims == 0:
            return Sharing("tensor" if channel is None else "row", 1, fmt)
        else:
            why = "has scales across the outputs"
    elif isinstance(fmt, BlockFormat):
        if fmt.axis is None or fmt.axis % dims == axis % dims:
            shares = fmt.block > 1 or isinstance(fmt, NVFP4)
            return Sharing("block", fmt.block, fmt) if shares else Sharing()
        why = "has blocks across the outputs"
    elif isinstance(fmt, (ElementFormat, Same)):
        return Sharing()
    else:
        why = "sees it in another shape"
    raise DovetailError(
        f"{recipe}: {slot}={fmt} of {op.key} {why}, and cannot be rounded column by column; the "
        "nearest that can is such as 'int4', 'int4(group=32)' or 'mxfp4'"
    )


class Columns:
    """The columns of one group of outputs, ``[K, N]``, in the order in which they are rounded.

    ``whole`` is all of the layer's weight; ``mask`` says what of the columns is kept, if not all.
    ``written`` is what was chosen, in a form that a cast of the whole leaves as chosen.
    """

    def __init__(
        self,
        op: Operation,
        sharing: Sharing,
        weight: Tensor,
        whole: Tensor,
        mask: Tensor | None,
    ) -> None:
        self.op, self.sharing, self.mask = op, sharing, mask
        self._shape = (-1, *[1] * (whole.dim() - 2))
        self.written = torch.zeros_like(weight)
        self.held = torch.zeros_like(weight, dtype=torch.bool)
        self._values = torch.zeros_like(weight)  # of those held
        self._largest = whole.flatten()[whole.abs().argmax()]
        kept = weight if mask is None else weight * mask
        if sharing.span in ("row", "block"):
            self._low = self._high = weight.new_zeros(weight.shape[1])
            self._beside: list[Tensor] = []
        if sharing.span == "row":
            self._hold(kept, 0)
        elif sharing.span == "tensor":
            self._ends(*(end.expand(weight.shape[1]) for end in (whole.min(), whole.max())))
            ends = (whole.min(), whole.max()) if sharing.both_ends else (self._largest,)
            for end in ends:
                self._keep(kept == end, kept)
        elif sharing.over_all:
            self._keep(kept == self._largest, kept)

    def share(self, start: int, weight: Tensor) -> None:
        """The columns from ``start`` on, ``[n, N]``, share a scale; this is their weight now."""
        weight = weight.to(self.written.dtype)
        span = slice(start, start + len(weight))
        if self.mask is not None:
            weight = weight * self.mask[span]
        if self.sharing.over_all:
            weight = weight.clamp(-self._largest.abs(), self._largest.abs())
        self._hold(torch.where(self.held[span], self._values[span], weight), start)

    def keep_best(self, start: int, scores: Tensor, spelling: str) -> None:
        """Of the columns from ``start`` on keep what the pattern makes of scores ``[n, N]``, in the
        order of the weight; those held are kept."""
        assert self.mask is not None
        span = slice(start, start + len(scores))
        scores = scores.masked_fill(self.held[span], torch.inf)
        self.mask[span] = mask_of(scores.mT, spelling).mT

    def round(self, j: int, weight: Tensor) -> Tensor:
        """What becomes of a column that stands at ``weight [N]``."""
        value = weight.to(self.written.dtype)
        if self.mask is not None:
            value = torch.where(self.mask[j], value, torch.zeros_like(value))
        if self.sharing.span == "none":
            self.written[j] = rounded = self._rounded([value])
            return rounded
        value = torch.where(self.held[j], self._values[j], self._bounded(value))
        rounded = self._rounded([value, *self._beside])
        # Rounding may pass the bound, which rounds to the same.
        self.written[j] = torch.where(self.held[j], value, self._bounded(rounded))
        return rounded

    def _bounded(self, value: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(value, self._low), self._high)

    def _rounded(self, columns: list[Tensor]) -> Tensor:
        context = torch.stack(columns, 1)
        if self.sharing.over_all:
            context = torch.cat([context, self._largest.expand(1, len(columns))])
        context = context.view(*context.shape, *self._shape[1:])
        return rounded_weight(self.op, context)[: len(columns[0]), 0].flatten()

    def _hold(self, weight: Tensor, start: int) -> None:
        """Hold what makes the scales of ``weight [n, N]``, and bound the rest by it."""
        span = slice(start, start + len(weight))
        places = torch.arange(len(weight), device=weight.device)[:, None]
        if self.sharing.both_ends:
            ends = [weight.argmin(0), weight.argmax(0)]
        else:
            ends = [weight.abs().argmax(0)]
        for end in ends:
            now = places == end
            self.held[span] |= now
            self._values[span] = torch.where(now, weight, self._values[span])
        self._ends(weight.amin(0), weight.amax(0))

    def _keep(self, where: Tensor, values: Tensor) -> None:
        self.held |= where
        self._values = torch.where(where, values, self._values)

    def _ends(self, low: Tensor, high: Tensor) -> None:
        """Bounds that leave the scale alone, and what is cast beside a column to give it."""
        if self.sharing.both_ends:
            self._low, self._high = low.clamp(max=0), high.clamp(min=0)
            self._beside = [self._low, self._high]
            return
        largest = torch.where(high >= -low, high, low)
        self._beside = [largest]
        self._high = self._room(largest.abs())
        self._low = -self._high

    def _room(self, largest: Tensor) -> Tensor:
        """The largest magnitude that has the scale of ``largest``."""
        fmt = self.sharing.fmt
        if not isinstance(fmt, PowerScaled) or fmt.mode != "FLOOR":
            return largest
        _, exponent = torch.frexp(largest)
        most = torch.full_like(largest, fmt.element.max / 2.0 ** (fmt.element.emax + 1))
        return torch.maximum(largest, torch.where(largest > 0, torch.ldexp(most, exponent), 0))
