"""A name for the values of tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["digest"]


def digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """A SHA-256 of names, shapes, element types and bits, in this order.

    >>> one, other = torch.tensor([0.0]), torch.tensor([-0.0])
    >>> digest([("x", one)]) == digest([("x", one.clone())]), digest([("x", one)]) == digest(
    ...     [("x", other)])
    (True, False)
    """
    found = hashlib.sha256()
    for name, value in named:
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        found.update(raw.data)
    return found.hexdigest()
