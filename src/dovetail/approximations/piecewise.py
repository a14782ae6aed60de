"""What holds a piecewise polynomial: a reduction and pieces, fitted once and then remembered."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache

import torch
from torch import Tensor

from dovetail._eager import constant
from dovetail.approximations.base import Unary
from dovetail.approximations.chunks import MANY, every_value, is_plain, look_up
from dovetail.approximations.functions import Function, function
from dovetail.approximations.pieces import Pieces
from dovetail.approximations.reductions import Reduction
from dovetail.approximations.steps import Steps
from dovetail.formats import Format, cast
from dovetail.formats import format as to_format

__all__ = ["Piecewise"]

_FLOAT32 = torch.float32


class Piecewise(Unary):
    """What holds a piecewise polynomial: its reduction, its pieces, and the rounding of both."""

    format: Format | None

    @abstractmethod
    def reduction(self, function: Function) -> Reduction:
        """How the function is brought to the pieces' interval."""

    @abstractmethod
    def fitted(self, function: Function) -> Pieces:
        """The pieces for a function."""

    def check_function(self, function: Function) -> None:
        super().check_function(function)
        self.reduction(function)

    def pieces(self, function: Function) -> Pieces:
        """The pieces for a function; fitted once, and then remembered.

        >>> from dovetail.approximations import approximation
        >>> approximation("pwl(4)").pieces(function("exp")).starts
        (0.0, 0.25, 0.5, 0.75)
        """
        return _remembered(self, function.name)[1]

    def evaluate(self, function: Function, x: Tensor) -> Tensor:
        reduction, pieces, rows = _unit(self, function.name, x.device)
        steps = Steps(self.steps_format)
        narrow = _NARROW.get(steps.format)
        if narrow is None or x.numel() < MANY or not is_plain(x):
            return reduction.evaluate(x, lambda t: pieces.at(t, steps, rows), steps)
        table = _core_table(self, function.name, narrow, x.device)
        return reduction.evaluate(x, lambda t: look_up(table, t.to(narrow)), steps)

    def rounded(self, values: list[float]) -> list[float]:
        """Coefficients as the unit holds them: in its format, else as float32 numbers."""
        made = torch.tensor(values, dtype=torch.float64)
        fmt = self.format
        made = made.to(_FLOAT32).double() if fmt is None else cast(made, fmt)
        return [float(v) for v in made]


Unit = tuple[Reduction, Pieces, Tensor]


@lru_cache(maxsize=256)
def _remembered(approximation: Piecewise, name: str) -> tuple[Reduction, Pieces]:
    known = function(name)
    return approximation.reduction(known), approximation.fitted(known)


def _unit(approximation: Piecewise, name: str, device: torch.device) -> Unit:
    """What is remembered; where torch.compile and torch.export trace, as a constant."""
    if not torch.compiler.is_compiling():
        return _held_unit(approximation, name, device)
    key = _note(approximation, name, device)
    found: Unit = getattr(_noted, key)
    return found


class _Noted:
    """What graphs refer to, as attributes: a graph sees into an object that has a place."""


_noted = _Noted()


@constant
def _note(approximation: Piecewise, name: str, device: torch.device) -> str:
    key = f"{approximation} of {name} on {device}"
    setattr(_noted, key, _held_unit(approximation, name, device))
    return key


_held: dict[tuple[Piecewise, str, torch.device], Unit] = {}


def _held_unit(approximation: Piecewise, name: str, device: torch.device) -> Unit:
    key = (approximation, name, device)
    if key not in _held:
        reduction, pieces = _remembered(approximation, name)
        rows = pieces.rows_on(device)
        if type(rows) is not Tensor:  # a fake one, while a graph is being traced
            return reduction, pieces, rows
        _held[key] = reduction, pieces, rows
    return _held[key]


#: Formats whose values a dtype holds: a core of theirs is a table of 2**16 entries.
_NARROW: dict[Format | None, torch.dtype] = {
    to_format("fp16"): torch.float16,
    to_format("bf16"): torch.bfloat16,
}


@lru_cache(maxsize=32)
def _core_table(
    approximation: Piecewise, name: str, dtype: torch.dtype, device: torch.device
) -> Tensor:
    _, pieces, rows = _unit(approximation, name, device)
    every = every_value(dtype, device).to(torch.float64)
    return pieces.at(every, Steps(approximation.steps_format), rows)
