"""Scores that a mask hides are exact whatever the formats: a block would take their size.

Models hide a score by adding minus infinity to it, or the lowest number of its dtype. No cast sees
such a number, and no range covers it, in the operations that masks go through.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hidden", "visible"]

#: The operations that a mask goes through.
_MASKED = frozenset({"add", "softmax", "log_softmax"})


def hidden(kind: str, x: Tensor) -> Tensor | None:
    """Where a mask hides, in an operand or the result of an operation; ``None`` if nowhere.

    >>> hidden("add", torch.tensor([1.0, torch.finfo(torch.float32).min]))
    tensor([False,  True])
    >>> hidden("gelu", torch.tensor([-torch.inf])) is None
    True
    """
    if kind not in _MASKED:
        return None
    far = x <= torch.finfo(x.dtype).min / 2
    known = type(x) is Tensor and x.device.type == "cpu" and not _traced()
    return None if known and not far.any() else far


def visible(kind: str, x: Tensor) -> Tensor:
    """``x`` with zeros where a mask hides.

    >>> visible("softmax", torch.tensor([-3.0, -torch.inf]))
    tensor([-3.,  0.])
    """
    far = hidden(kind, x)
    return x if far is None else x.masked_fill(far, 0.0)


def _traced() -> bool:
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
