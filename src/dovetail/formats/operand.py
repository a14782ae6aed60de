"""What a cast and an encoding take: refused before any compute."""

from __future__ import annotations

import torch

from dovetail.errors import DovetailError

__all__ = ["check_operand"]

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def check_operand(verb: str, x: object, fmt: object, axis: object) -> None:
    """Refuse what is no floating-point tensor, and an ``axis`` that it does not have.

    >>> check_operand("cast", torch.zeros(2, 3), "mxfp4", 2)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: axis=2 of 'mxfp4' is not an axis of a tensor with 2 dimensions
    """
    if not isinstance(x, torch.Tensor):
        raise DovetailError(f"{verb} takes a tensor, not {x!r:.60}: use torch.tensor(...)")
    if x.dtype not in _DTYPES:
        raise DovetailError(
            f"{verb} takes a floating-point tensor (float64, 32, 16 or bfloat16), not {x.dtype}: "
            "use x.float()"
        )
    if axis is None:
        return
    if not isinstance(axis, int):
        raise DovetailError(f"axis={axis!r} is not a whole number")
    if x.dim() and not -x.dim() <= axis < x.dim():
        raise DovetailError(
            f"axis={axis} of '{fmt}' is not an axis of a tensor with {x.dim()} dimensions"
        )
