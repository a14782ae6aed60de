"""The rule by which vmap maps an op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["one_by_one"]


def one_by_one(name: str) -> Callable[..., Any]:
    """A rule of vmap: one call per example, right for whichever operands are batched."""

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        op = getattr(torch.ops.dovetail, name)
        outs = []
        for i in range(info.batch_size):
            picked = [
                value.select(dim, i)
                if isinstance(dim, int) and isinstance(value, Tensor)
                else value
                for value, dim in zip(args, in_dims, strict=True)
            ]
            outs.append(op(*picked))
        return torch.stack(outs), 0

    return rule
