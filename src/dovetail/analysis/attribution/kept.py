"""Buffers that a forward pass writes to, put back after every pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation.swap import BUFFER_PREFIX

__all__ = ["kept_buffers"]


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Within, every pass of ``model`` finds the buffers as they are now, and they are so again
    afterwards, whatever ends it: the same tensors with the same values.

    >>> norm = nn.BatchNorm1d(2)
    >>> with kept_buffers(norm):
    ...     _ = norm(torch.randn(4, 2))
    >>> int(norm.num_batches_tracked), norm.running_mean.tolist()
    (0, [0.0, 0.0])
    """
    found = [
        _Buffer(module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not name.startswith(BUFFER_PREFIX)  # no pass writes to ours
    ]

    def put_back(*_: Any) -> None:
        for each in found:
            each.put_back()

    hook = model.register_forward_hook(put_back)
    try:
        yield
    finally:
        hook.remove()
        put_back()


class _Buffer:
    def __init__(self, module: nn.Module, name: str, buffer: Tensor) -> None:
        self.module, self.name, self.buffer = module, name, buffer
        self.before = buffer.detach().clone()

    def put_back(self) -> None:
        self.module._buffers[self.name] = self.buffer
        # its version tells nothing: batch normalisation writes without raising it
        if not torch.equal(self.buffer, self.before):
            self.buffer.detach().copy_(self.before)
