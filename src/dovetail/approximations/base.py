"""What every approximation is: a frozen value that says how functions are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dovetail._spelling import spell_call
from dovetail.approximations.chunks import MANY, NARROW, every_value, is_plain, look_up, row_by_row
from dovetail.approximations.door import found
from dovetail.approximations.functions import FUNCTIONS, Function, function, function_of
from dovetail.errors import DovetailError, unknown
from dovetail.formats import Format

__all__ = ["GRADIENTS", "Approximation", "Unary"]

#: Whose derivative the backward pass takes.
GRADIENTS = ("exact", "approximation")


class Approximation(ABC):
    """How a function is computed; ``dv.approximation(repr(a)) == a``.

    ``grad`` is whose derivative the backward pass takes: that of the ``exact`` function, or of the
    ``approximation`` itself. What is approximated depends on the kind of operation that it is given
    to.
    """

    grad: str

    @property
    @abstractmethod
    def kinds(self) -> tuple[str, ...]:
        """The kinds of operation that it can compute."""

    def check(self, kind: str) -> None:
        """Refuse what it cannot compute, naming what it can."""
        if kind not in self.kinds:
            raise DovetailError(
                f"fn={self} does not suit {kind}: it computes {', '.join(self.kinds)}"
            )

    @abstractmethod
    def compute(
        self, kind: str, operands: Mapping[str, Tensor], attributes: Mapping[str, Any]
    ) -> Tensor:
        """The result of one call, in the dtype of its input; the gradient is its own."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name in a spelling."""

    @property
    def spelling(self) -> str:
        """The canonical spelling: what has no default by place, what differs from one by name.

        A format that follows directly is written by its place as well.
        """
        args, kwargs, placed = [], {}, True
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if f.name in self.in_name:
                continue
            if f.default is MISSING or (placed and f.name == "format" and value != f.default):
                args.append(_word(value))
            elif value != f.default:
                kwargs[f.name] = _word(value)
            placed = placed and f.default is MISSING
        return spell_call(self.name, *args, **kwargs)

    #: Fields that the name holds already.
    in_name: tuple[str, ...] = ()

    #: What it is, in a few words.
    summary: str = ""

    def __repr__(self) -> str:
        return self.spelling

    __str__ = __repr__


class Unary(Approximation):
    """An approximation of functions of one variable, element by element.

    Given to a softmax it computes the exponentials, given to a normalisation the reciprocal square
    root; every other intermediate result there is rounded to its format as well.
    """

    #: Names of the functions that it can compute.
    functions: tuple[str, ...] = tuple(FUNCTIONS)

    def check_function(self, function: Function) -> None:
        """Refuse a function that it cannot compute as it is."""
        if function.name not in self.functions:
            raise DovetailError(
                f"{self} does not compute {function.name}, but {', '.join(self.functions)}"
            )

    @abstractmethod
    def evaluate(self, function: Function, x: Tensor) -> Tensor:
        """The function of float64 values."""

    @property
    def steps_format(self) -> Format | None:
        """What intermediate results around it are rounded to."""
        fmt: Format | None = getattr(self, "format", None)
        return fmt

    @property
    def kinds(self) -> tuple[str, ...]:
        known = [name for name in self.functions if name != "gelu_tanh"]
        known += ["softmax", "log_softmax"] if "exp" in self.functions else []
        known += ["layer_norm", "rms_norm"] if "rsqrt" in self.functions else []
        return tuple(known)

    def check(self, kind: str) -> None:
        super().check(kind)
        whole = self.within(kind)
        if whole is None:
            self.check_function(function_of(kind, {}))
        else:
            whole.check(kind)

    def compute(
        self, kind: str, operands: Mapping[str, Tensor], attributes: Mapping[str, Any]
    ) -> Tensor:
        whole = self.within(kind)
        if whole is not None:
            return whole.compute(kind, operands, attributes)
        x, known = operands["input"], function_of(kind, attributes)
        if x.dtype in NARROW and x.numel() >= MANY and is_plain(x):
            return look_up(_table(self, known.name, x.dtype, x.device), x)
        y = found(self, x, known)
        if y is not None:
            return y
        y = row_by_row(lambda part: self._of(known, part), x.reshape(-1, 1))
        return y.reshape(x.shape)

    def _of(self, known: Function, x: Tensor) -> Tensor:
        return self.evaluate(known, x.to(torch.float64)).to(x.dtype)

    def within(self, kind: str) -> Approximation | None:
        """The approximation of a softmax or a normalisation that this is the heart of."""
        return (_whole if torch.compiler.is_compiling() else _known_whole)(self, kind)


def _whole(part: Unary, kind: str) -> Approximation | None:
    from dovetail.approximations.norm import Norm
    from dovetail.approximations.softmax import Softmax

    if kind in ("softmax", "log_softmax"):
        return Softmax(exp=part, format=part.steps_format, grad=part.grad)
    if kind in ("layer_norm", "rms_norm"):
        return Norm(rsqrt=part, format=part.steps_format, grad=part.grad)
    return None


_known_whole = lru_cache(maxsize=256)(_whole)


@lru_cache(maxsize=32)
def _table(approximation: Unary, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    return approximation._of(function(name), every_value(dtype, device))


def check_gradient(grad: str) -> None:
    """Refuse what is no gradient.

    >>> check_gradient("exakt")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown gradient of an approximation 'exakt'; did you mean ...
    """
    if grad not in GRADIENTS:
        raise unknown("gradient of an approximation", str(grad), GRADIENTS)


def _word(value: Any) -> Any:
    """A field as the spelling grammar takes it; whole numbers are written without a point."""
    if isinstance(value, tuple):
        return tuple(_word(item) for item in value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return str(value) if isinstance(value, (Format, Approximation)) else value
