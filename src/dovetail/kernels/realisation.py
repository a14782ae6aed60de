"""Realisations: implementations of one meaning, and the register that the planner chooses from.

The meaning of ``mac`` is :func:`dovetail.kernels.reference.sums`: the exact integer sums
``y[..., n] = sum_k f(a[..., k], w[n, k])``. A realisation is a factory that takes the multiplier
and returns a :class:`MacKernel`; ``when`` says for which multipliers and devices it holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail.errors import DovetailError, unknown
from dovetail.kernels.geometry import Geometry
from dovetail.multipliers import Multiplier

__all__ = ["MacKernel", "Operands", "Realisation", "realisations", "register_realisation", "using"]


@dataclass(frozen=True)
class Operands:
    """What the operands of a MAC are: their code ranges ``(low, high)`` and their device."""

    first: tuple[int, int]
    second: tuple[int, int]
    device: str = "cpu"

    def bound(self, mul: Multiplier) -> int:
        """An upper bound of ``|f|`` over the operands."""
        if mul.bits is not None:
            return mul.max_abs
        return max(abs(a) for a in self.first) * max(abs(w) for w in self.second)


class MacKernel(ABC):
    """A realisation bound to a multiplier and the operands' ranges."""

    name: str
    #: Sums, zero-point terms included, must stay below ``2**sum_bits`` for :meth:`fused`.
    sum_bits: int = 31

    @abstractmethod
    def pack(self, w: Tensor, geometry: Geometry) -> Any:
        """Weight codes ``[N, K]`` or ``[O, C/groups, *kernel]`` in the layout this kernel reads."""

    @abstractmethod
    def sums(self, a: Tensor, packed: Any, geometry: Geometry, pad_code: int) -> Tensor:
        """Exact sums over codes ``[..., K]`` or ``[B, C, *spatial]``: int32 if proven, or int64."""

    def weight_sums(self, packed: Any) -> Tensor | None:
        """The sum of each output's weight codes, int64 ``[N]``; ``None`` if it is not at hand."""
        del packed
        return None

    def fused(
        self,
        x: Tensor,
        quantizer: tuple[float, int, int, int],
        packed: Any,
        geometry: Geometry,
        scale: Tensor,
        bias: Tensor | None,
    ) -> Tensor | None:
        """Quantise, multiply, scale and add the bias in one pass, or ``None`` if not offered.

        ``quantizer`` is (scale, zero point, lowest, highest code); ``scale`` is ``[N]``.
        """
        del x, quantizer, packed, geometry, scale, bias
        return None


@dataclass(frozen=True)
class Realisation:
    """A registered factory; among those that hold, the one with the least ``cost`` runs."""

    op: str
    name: str
    when: Callable[[Multiplier, Operands], bool]
    cost: Callable[[Multiplier, Operands], float]
    factory: Callable[[Multiplier, Operands], MacKernel]


_register: dict[str, Realisation] = {}
_forced: list[str] = []


def register_realisation(
    op: str,
    *,
    when: Callable[[Multiplier, Operands], bool],
    cost: Callable[[Multiplier, Operands], float],
    name: str | None = None,
) -> Callable[[Callable[[Multiplier, Operands], MacKernel]], Callable[..., MacKernel]]:
    """Decorator: offer a factory as a realisation of ``op`` (``"mac"``) where ``when`` holds.

    ``when``, ``cost`` and the factory see the multiplier and the operands' ranges and device.
    ``cost`` predicts the time of a large layer as a ratio to torch's float32: of the realisations
    that hold, the cheapest runs.

    >>> @register_realisation("mac", when=lambda *_: False, cost=lambda *_: 1.0, name="never")
    ... def never(mul, operands): ...
    >>> "never" in realisations("mac")
    True
    >>> del _register["never"]
    """
    if op != "mac":
        raise unknown("op to realise", op, ["mac"])

    def add(factory: Callable[[Multiplier, Operands], MacKernel]) -> Callable[..., MacKernel]:
        key = name or factory.__name__
        _register[key] = Realisation(op, key, when, cost, factory)
        return factory

    return add


def realisations(op: str = "mac") -> list[str]:
    """Names of the registered realisations of ``op``.

    >>> "reference" in realisations("mac")
    True
    """
    return [r.name for r in _register.values() if r.op == op]


def candidates(op: str, mul: Multiplier, operands: Operands) -> list[Realisation]:
    """The realisations that hold for this multiplier and these operands, the cheapest first."""
    names = _forced[-1:] or realisations(op)
    found = [_register[n] for n in names if _register[n].when(mul, operands)]
    if not found:
        forced = f" '{names[0]}'" if _forced else ""
        raise DovetailError(f"no realisation{forced} of {op} holds for mul={mul} on {operands}")
    return sorted(found, key=lambda r: r.cost(mul, operands))


@contextmanager
def using(name: str) -> Iterator[None]:
    """Run everything inside with one realisation, chosen by name (for tests and measurements).

    >>> with using("reference"):
    ...     pass
    """
    if name not in _register:
        raise unknown("realisation", name, _register)
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


def forced() -> str | None:
    """The realisation that :func:`using` forces, if any."""
    return _forced[-1] if _forced else None


def sum_dtype(bound: int) -> torch.dtype:
    """int32 if every sum of magnitude up to ``bound`` fits, else int64."""
    return torch.int32 if bound < 2**31 else torch.int64
