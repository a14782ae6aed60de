"""An example: the arguments that a model is called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

__all__ = ["Arguments", "arguments_of", "described"]


@dataclass(frozen=True)
class Arguments:
    """An example with positional arguments and keyword arguments both."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def arguments_of(example: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Positional and keyword arguments: what an example means.

    >>> arguments_of({"x": 1}), arguments_of((1, 2)), arguments_of(3)
    (((), {'x': 1}), ((1, 2), {}), ((3,), {}))
    """
    if isinstance(example, Arguments):
        return example.args, example.kwargs
    if isinstance(example, Mapping):
        return (), example
    one = not isinstance(example, tuple) or isinstance(example, PackedSequence)
    return ((example,), {}) if one else (example, {})


def described(argument: Any) -> str:
    if isinstance(argument, Tensor):
        return f"{argument.dtype} {tuple(argument.shape)}"
    return f"{type(argument).__name__} {argument!r:.40}"
