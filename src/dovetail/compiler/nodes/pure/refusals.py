"""What cannot be written out as maps and tasklets; told without importing DaCe."""

from __future__ import annotations

import torch

from dovetail.compiler.nodes.base import Call

__all__ = ["in_full"]

_WIDE = (torch.float32, torch.float64, torch.int8, torch.uint8, torch.int32, torch.int64)


def in_full(call: Call) -> str | None:
    """Sums are formed in the type of the operands: narrow floats would lose what torch keeps."""
    for operand in (*call.inputs, *call.outputs):
        if operand is not None and operand.dtype not in _WIDE:
            return f"sums in {operand.dtype} would be rounded at every step"
    return None
