"""What a composite is: a function that hides products, and how it is taken apart."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from dovetail.emulation.calls import Call
from dovetail.emulation.operators.base import OpCall
from dovetail.kernels.geometry import LINEAR

__all__ = ["Composite", "Products", "Unfused", "binder"]


class Products(ABC):
    """Who computes the products and operators inside a composite.

    ``index`` numbers those of one kind within the composite's call; one that is computed step by
    step, as a recurrent layer's hidden product is, has the same number at every step.
    """

    @abstractmethod
    def perform(self, index: int, call: Call | OpCall) -> Tensor:
        """The result of one product or operator."""

    def linear(self, index: int, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``x [..., K]`` times ``weight [N, K]``, plus ``bias``."""
        return self.perform(index, Call("linear", x, weight, bias, LINEAR))

    def matmul(self, index: int, x: Tensor, other: Tensor) -> Tensor:
        """``x [..., M, K]`` times ``other [..., K, N]``."""
        return self.perform(index, Call("matmul", x, other, None, LINEAR))


class Unfused(NamedTuple):
    """One call of a composite: how many operations of each kind it holds, and how it computes."""

    counts: Mapping[str, int]
    run: Callable[[Products], Any]


@dataclass(frozen=True)
class Composite:
    """A torch function with products and operators inside.

    ``read(args, kwargs)`` gives the call taken apart, or ``None`` if it cannot be: then it runs as
    it is, and the plan names it.
    """

    name: str
    kinds: frozenset[str]
    read: Callable[[tuple[Any, ...], dict[str, Any]], Unfused | None]


def binder(
    read: Callable[..., Unfused | None],
) -> Callable[[tuple[Any, ...], dict[str, Any]], Unfused | None]:
    """``read`` as a composite takes it; arguments that do not fit its signature are not read."""
    signature = inspect.signature(read)
    names = frozenset(signature.parameters)
    least = sum(p.default is p.empty for p in signature.parameters.values())

    def bound(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Unfused | None:
        fits = names.issuperset(kwargs) and least <= len(args) + len(kwargs) <= len(names)
        return read(*args, **kwargs) if fits else None

    return bound
