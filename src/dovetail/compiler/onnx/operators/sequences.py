"""Sequences are lists of tensors; an optional without an element is ``None``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.errors import DovetailError


@operator("SequenceConstruct", 11)
def construct(*inputs: Tensor) -> list[Tensor]:
    """Of the tensors given."""
    return list(inputs)


@operator("SequenceEmpty", 11)
def empty(*, dtype: int = 1) -> list[Tensor]:
    """Without an element."""
    return []


@operator("SequenceAt", 11, static=(1,))
def at(sequence: list[Tensor], position: Any) -> Tensor:
    """The element at a position, from the end if it is negative."""
    return sequence[_place(position, 0)]


def _place(position: Any, otherwise: int) -> int:
    position = position[0] if isinstance(position, list) else position
    return otherwise if position is None else int(position)


@operator("SequenceInsert", 11, static=(2,))
def insert(sequence: list[Tensor], tensor: Tensor, position: Any = None) -> list[Tensor]:
    """With an element more: last, or before a position."""
    where = _place(position, len(sequence))
    where = where + len(sequence) if where < 0 else where
    return [*sequence[:where], tensor, *sequence[where:]]


@operator("SequenceErase", 11, static=(1,))
def erase(sequence: list[Tensor], position: Any = None) -> list[Tensor]:
    """With an element less: the last, or that at a position."""
    where = _place(position, -1)
    where = where + len(sequence) if where < 0 else where
    return [*sequence[:where], *sequence[where + 1 :]]


@operator("SequenceLength", 11)
def length(sequence: list[Tensor]) -> Any:
    """As a number."""
    return (len(sequence),)


@operator("SplitToSequence", 11, static=(1,))
def split_to_sequence(
    x: Tensor, split: Any = None, *, axis: int = 0, keepdims: int = 1
) -> list[Tensor]:
    """Of the sizes given, or one slice each."""
    if split is None:
        parts = list(torch.split(x, 1, axis))
        return parts if keepdims else [part.squeeze(axis) for part in parts]
    return list(torch.split(x, split, axis))


@operator("ConcatFromSequence", 11)
def concat_from_sequence(sequence: Sequence[Tensor], *, axis: int, new_axis: int = 0) -> Tensor:
    """Joined along an axis, or along a new one."""
    return torch.stack(list(sequence), axis) if new_axis else torch.cat(list(sequence), axis)


@operator("Optional", 15)
def optional_(value: Any = None, *, type: str | None = None) -> Any:
    """The value, or nothing."""
    return value


@operator("OptionalHasElement", 15)
def has_element(value: Any = None) -> Tensor:
    """Whether there is a value."""
    return torch.tensor(value is not None)


@operator("OptionalGetElement", 15)
def get_element(value: Any) -> Any:
    """The value."""
    if value is None:
        raise DovetailError("the optional value is empty")
    return value
