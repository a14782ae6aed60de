"""The arithmetic of approximations: float64, every result rounded to the intermediate format.

Only operations that IEEE 754 rounds correctly are used (sums, products, quotients, square roots,
comparisons and bit patterns), so that the same input gives the same bits everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats import ElementFormat, Format
from dovetail.formats import format as to_format
from dovetail.formats.cast import straight_through

__all__ = ["Steps", "detached", "intermediate", "power_of_two", "scaled", "tree_sum"]


_FP32 = to_format("fp32")


@dataclass(frozen=True)
class Steps:
    """Calling it rounds one intermediate result; without a format it stays float64.

    >>> from dovetail.formats import format
    >>> Steps(format("fp16"))(torch.tensor(1 / 3, dtype=torch.float64)).item()
    0.333251953125
    """

    format: Format | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.format is None:
            return x
        if self.format == _FP32:  # what torch itself rounds to, in one instruction
            return x.to(torch.float32).to(torch.float64)
        return straight_through(x, self.format)


def intermediate(fmt: Format | None, what: str) -> Format | None:
    """``fmt`` if every intermediate result can be rounded to it by itself, always alike.

    >>> from dovetail.formats import format
    >>> intermediate(format("int8"), "poly2")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: poly2: ... the nearest that has is 'fixed(8, 4)'
    """
    if fmt is None or (isinstance(fmt, ElementFormat) and not fmt.rounding.is_stochastic):
        return fmt
    if isinstance(fmt, ElementFormat):
        raise DovetailError(
            f"{what}: format={fmt} rounds stochastically, and an approximation gives the same "
            "result every time: leave its rounding out"
        )
    raise DovetailError(
        f"{what}: format={fmt} takes its scale from a whole tensor, but an intermediate result is "
        f"rounded in a format that has a scale of its own; the nearest that has is "
        f"'fixed({fmt.bits}, {fmt.bits // 2})'"
    )


def detached(x: Tensor) -> Tensor:
    """``x`` as a number that no gradient flows through."""
    return x.detach()


def power_of_two(k: Tensor) -> Tensor:
    """``2.0 ** k`` of integral float64 values from -1022 to 1023, exactly.

    >>> power_of_two(torch.tensor([-3.0, 0.0], dtype=torch.float64)).tolist()
    [0.125, 1.0]
    """
    return ((k.to(torch.int64) + 1023) << 52).view(torch.float64)


def scaled(x: Tensor, k: Tensor) -> Tensor:
    """``x * 2.0 ** k`` of integral float64 values ``k``; far beyond every exponent, they saturate.

    In two halves: neither power overflows, and only a subnormal result is rounded. Where ``k`` is
    NaN, so is the result.
    """
    whole = detached(k)
    fixed = torch.where(whole.isnan(), 0.0, whole).clamp(-2040.0, 2040.0)
    half = torch.floor(fixed / 2)
    y = x * power_of_two(half) * power_of_two(fixed - half)
    return torch.where(whole.isnan(), whole, y)


def tree_sum(x: Tensor, steps: Steps) -> Tensor:
    """The sum along the last axis, which is kept: neighbours in pairs, then the sums in pairs.

    Every sum is rounded; an odd one out goes up as it is.

    >>> tree_sum(torch.tensor([1.0, 2.0, 4.0]), Steps()).tolist()
    [7.0]
    """
    count = x.shape[-1]
    if count == 0:
        return x.new_zeros((*x.shape[:-1], 1))
    while count > 1:
        paired = count - count % 2
        sums = steps(x[..., 0:paired:2] + x[..., 1:paired:2])
        x = sums if paired == count else torch.cat([sums, x[..., paired:]], -1)
        count = x.shape[-1]
    return x
