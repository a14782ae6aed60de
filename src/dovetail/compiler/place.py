"""Where a program is to run: told by ``target``, or by the tensors that it is made for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dovetail.compiler.build.gpu import gpu
from dovetail.compiler.nodes.base import TARGETS
from dovetail.errors import DovetailError, unknown

__all__ = ["HOST", "Place", "place_of", "refuse_elsewhere", "whole_attention"]


class Place(NamedTuple):
    """Where a program runs: what it is compiled for, and the device that its tensors are on."""

    target: str
    device: torch.device


#: The host's processor and memory.
HOST = Place("cpu", torch.device("cpu"))


def place_of(named: Iterable[tuple[str, Any]], target: str | None) -> Place:
    """Where a program of the ``named`` tensors runs; ``target`` says what is wanted.

    >>> place_of([("x", torch.ones(2))], None)
    Place(target='cpu', device=device(type='cpu'))
    >>> place_of([("x", torch.ones(2))], "fpga")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown target 'fpga'...
    """
    tensors = [(name, value) for name, value in named if isinstance(value, Tensor)]
    if target is None:
        target = "cuda" if any(value.is_cuda for _, value in tensors) else "cpu"
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    if target == "cuda":
        return Place(target, gpu().device(tensors))
    for name, value in tensors:
        if value.device.type != "cpu":
            raise DovetailError(
                f"target='cpu', but {name} is on {value.device}: move the model and the example "
                "with .cpu(), or compile with target='cuda'"
            )
    return HOST


def refuse_elsewhere(flat: Sequence[Any], device: torch.device) -> None:
    """Refuse tensors on another device: compiled code would read their addresses on its own."""
    for number, value in enumerate(flat):
        if isinstance(value, Tensor) and value.device != device:
            raise DovetailError(
                f"tensor {number} of parameters, buffers and inputs is on {value.device}, and the "
                f"program was compiled for {device}: compile again after moving a model"
            )


def whole_attention(target: str) -> contextlib.AbstractContextManager[Any]:
    """On a GPU attention is captured as its products and its softmax: the kernels of torch that
    fuse it return more than tensors."""
    if target == "cpu":
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)
