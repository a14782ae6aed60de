"""``dovetail::mask``: the mask of a weight's scores as one node of a traced graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_fake, register_vmap

from dovetail._eager import is_eager
from dovetail.kernels.batching import one_by_one
from dovetail.sparsity import sparsity

__all__ = ["mask_of"]

_library = Library("dovetail", "FRAGMENT")
_library.define("mask(Tensor scores, str sparsity, int axis, int stream) -> Tensor")


def _mask(scores: Tensor, spelling: str, axis: int, stream: int) -> Tensor:
    return sparsity(spelling).pattern.mask(scores, axis, stream)


def _fake(scores: Tensor, spelling: str, axis: int, stream: int) -> Tensor:
    del spelling, axis, stream
    return scores.new_empty(scores.shape, dtype=torch.bool)


_library.impl("mask", _mask, "CompositeExplicitAutograd")
register_fake("dovetail::mask", _fake, lib=_library)
register_vmap("dovetail::mask", one_by_one("mask"), lib=_library)


def mask_of(scores: Tensor, spelling: str, axis: int = -1, stream: int = 0) -> Tensor:
    """The mask that the sparsity so spelt makes of scores; no gradient is recorded.

    >>> mask_of(torch.tensor([[1.0, 3.0]]), "1:2")
    tensor([[False,  True]])
    """
    fixed = scores.detach()
    if is_eager():
        return _mask(fixed, spelling, axis, stream)
    mask: Any = torch.ops.dovetail.mask(fixed, spelling, axis, stream)
    return mask  # type: ignore[no-any-return]
