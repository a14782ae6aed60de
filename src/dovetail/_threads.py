"""How many threads torch computes with, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["computing_with"]


@contextmanager
def computing_with(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads, ``None`` for as many as now; then with as many as before.

    >>> before = torch.get_num_threads()
    >>> with computing_with(1):
    ...     print(torch.get_num_threads())
    1
    >>> torch.get_num_threads() == before
    True
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
