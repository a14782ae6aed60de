"""Integer formats ``int2`` to ``int16`` and ``uint2`` to ``uint16``."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dovetail.errors import DovetailError
from dovetail.formats.base import Format
from dovetail.formats.rounding import NEAREST_EVEN, Rounding

__all__ = ["IntFormat"]

_OF_GROUPS = ("mse", "l2")


@dataclass(frozen=True, repr=False)
class IntFormat(Format):
    """Codes ``q`` standing for ``(q - zero_point) * scale``.

    ``affine=False`` is the symmetric form: the zero point is 0 and, unless ``full``, the lowest
    code is left out, so that ``int8`` has the codes -127..127. ``channel=None`` takes the
    granularity of the slot the format is used in: per output channel for weights, per tensor for
    everything else; ``per_tensor`` and ``channel=axis`` fix it. ``group=n`` gives every run of
    ``n`` neighbours along the axis of the cast (the products that are summed) a scale of its own,
    always from the values themselves. ``dynamic`` takes the range of each batch instead of a
    calibrated one, ``po2`` rounds the scale up to a power of two, ``observer`` names how the range
    follows from the values (:mod:`dovetail.formats.observers`): of a weight or a dynamic range from
    the tensor itself (default: its extremes), of a calibrated one from the batches (default: the
    calibration's); of a group ``mse`` and ``l2`` alone.

    ``rounding`` acts on the quotient ``x / scale`` (a float32 number, or float64 for float64), to
    which the zero point is added afterwards: ``TowardZero`` goes toward the value 0, and ``ToOdd``
    takes the odd multiple of the scale, whatever code stands for it. Scales and zero points are
    found as for rounding to nearest. As they are rounded numbers themselves, a multiple of one may
    lie a last place beside the integer, which the directed modes and ``ToOdd`` can then leave.

    NaN has no code: it becomes the code of zero. Infinities saturate.

    >>> IntFormat(8).qmin, IntFormat(8, full=True).qmin, IntFormat(8, signed=False).qmax
    (-127, -128, 255)
    >>> IntFormat(8, rounding=Rounding("TowardZero"))
    int8(rounding=TowardZero)
    """

    bits: int
    signed: bool = True
    affine: bool = False
    full: bool = False
    per_tensor: bool = False
    channel: int | None = None
    group: int | None = None
    dynamic: bool = False
    po2: bool = False
    observer: str | None = None
    rounding: Rounding = NEAREST_EVEN

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            name = f"{'int' if self.signed else 'uint'}{self.bits}"
            near = min(max(self.bits, 2), 16)
            raise DovetailError(
                f"'{name}': integer formats have 2 to 16 bits; the nearest is "
                f"'{'int' if self.signed else 'uint'}{near}'"
            )
        if self.per_tensor and self.channel is not None:
            raise DovetailError(
                f"'{self}': per_tensor and channel={self.channel} exclude each other"
            )
        if self.group is not None:
            self._check_group(self.group)
        if self.affine and self.po2:
            raise DovetailError(f"'{self}': a power-of-two scale (po2) has no zero point (affine)")

    def _check_group(self, group: int) -> None:
        if group < 1:
            raise DovetailError(f"'{self}': a group holds at least 1 value, not {group}")
        for other, given in (
            ("per_tensor", self.per_tensor),
            ("channel", self.channel is not None),
        ):
            if given:
                raise DovetailError(f"'{self}': group={group} and {other} exclude each other")
        if self.observer not in (None, *_OF_GROUPS):
            raise DovetailError(
                f"'{self}': a group is too small for a histogram; of one, observer= is "
                f"{' or '.join(_OF_GROUPS)}"
            )

    @property
    def qmin(self) -> int:
        """The lowest code."""
        if not self.signed:
            return 0
        return -(1 << (self.bits - 1)) + (0 if self.full or self.affine else 1)

    @property
    def qmax(self) -> int:
        """The highest code."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def bytes_per_element(self) -> float:
        """Average storage of one element, its share of a group's scale and zero point included.

        >>> IntFormat(4, group=32).bytes_per_element
        0.625
        """
        shared = 0 if self.group is None else (8 if self.affine else 4) / self.group
        return self.bits / 8 + shared

    @property
    def is_static(self) -> bool:
        """Whether the format needs a range from calibration when used on activations."""
        return not self.dynamic and self.group is None

    @property
    def leaves_out(self) -> bool:
        """Whether the range that it takes from values may leave some of them out.

        >>> IntFormat(8).leaves_out, IntFormat(8, observer="mse").leaves_out
        (False, True)
        """
        return self.observer not in (None, "minmax", "max")

    @property
    def code_dtype(self) -> torch.dtype:
        """The smallest torch dtype that holds every code and supports arithmetic."""
        if self.bits <= 8:
            return torch.int8 if self.signed else torch.uint8
        return torch.int16 if self.signed or self.bits < 16 else torch.int32

    @property
    def spelling(self) -> str:
        words = []
        if self.signed and self.affine:
            words.append("affine")
        if not self.signed and not self.affine:
            words.append("symmetric")
        words += [w for w in ("full", "per_tensor", "dynamic", "po2") if getattr(self, w)]
        if self.channel is not None:
            words.append(f"channel={self.channel}")
        if self.group is not None:
            words.append(f"group={self.group}")
        if self.observer is not None:
            words.append(f"observer={self.observer}")
        if self.rounding != NEAREST_EVEN:
            words.append(f"rounding={self.rounding}")
        arguments = f"({', '.join(words)})" if words else ""
        return f"{'int' if self.signed else 'uint'}{self.bits}{arguments}"

    def axis_for(self, slot: str) -> int | None:
        """The axis along which each index has its own scale, or ``None`` for one scale in all."""
        if self.channel is not None:
            return self.channel
        return 0 if slot == "weight" and not self.per_tensor else None
