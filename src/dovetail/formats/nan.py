"""Which formats have NaN, and what becomes of one that meets a format without."""

from __future__ import annotations

from torch import Tensor

from dovetail._eager import is_eager
from dovetail.errors import DovetailError
from dovetail.formats.base import BlockFormat, ElementFormat, Format, Same
from dovetail.formats.scaled import ScaledBlock
from dovetail.formats.shaped import Shaped

__all__ = ["has_nan", "refuse_nan"]


def has_nan(fmt: Format) -> bool:
    """Whether a tensor in ``fmt`` can hold NaN: by a code of its own, or by a block's scale.

    >>> from dovetail.formats import format
    >>> [has_nan(format(f)) for f in ("int8", "fp8_e4m3", "fp4_e2m1fn", "mxfp4", "fixed(8, 4)")]
    [False, True, False, True, False]
    """
    if isinstance(fmt, Shaped):
        return has_nan(fmt.inner) and (fmt.before is None or has_nan(fmt.before))
    if isinstance(fmt, ElementFormat):
        return fmt.has_nan
    if isinstance(fmt, ScaledBlock):
        return fmt.scale.has_nan
    return isinstance(fmt, (BlockFormat, Same))


def refuse_nan(x: Tensor, fmt: Format, otherwise: str) -> None:
    """Raise if ``x`` holds NaN and ``fmt`` does not; ``otherwise`` is what the error advises.

    >>> import torch
    >>> from dovetail.formats import format
    >>> refuse_nan(torch.tensor([1.0, torch.nan]), format("int8"), "mask it")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: 'int8' has no code for NaN, and 1 of 2 values is NaN: mask it
    """
    if has_nan(fmt):
        return
    if not is_eager():
        raise DovetailError("whether values are NaN cannot be asked while a graph is traced")
    count = int(x.isnan().sum())
    if count:
        verb = "is" if count == 1 else "are"
        raise DovetailError(
            f"'{fmt}' has no code for NaN, and {count} of {x.numel()} values {verb} NaN: "
            f"{otherwise}"
        )
