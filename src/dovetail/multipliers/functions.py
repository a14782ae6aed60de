"""Multipliers given by a function of the two operands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from dovetail._numbers import is_whole
from dovetail._spelling import spell_call
from dovetail.errors import DovetailError
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.circuits.circuit import Circuit
from dovetail.multipliers.factorisation import find_mask, mask_factors
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.kept import keep
from dovetail.multipliers.operands import (
    Bits,
    IntArray,
    as_bits,
    as_signed,
    operand_range,
    operand_values,
    spell_bits,
)
from dovetail.multipliers.table import from_table

__all__ = ["Function", "from_callable"]

TABULATED_BITS = 16


@dataclass(frozen=True, eq=False, repr=False)
class Function(Multiplier):
    """``f(a, w) = function(a, w)``, evaluated on demand: for operands too wide to tabulate.

    A product beyond ``bound`` is refused when it occurs, so ``max_abs`` can be relied on.
    """

    function: Callable[[Any, Any], Any]
    bits: Bits
    signed: bool
    bound: int
    vectorised: bool
    label: str

    def __repr__(self) -> str:
        key = f"sha256:{self.content_key[:16]}"
        return spell_call("function", key, bits=spell_bits(self.bits), signed=self.signed)

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.label

    @property
    def circuit(self) -> Circuit | None:
        """The function itself, where it is a circuit."""
        return self.function if isinstance(self.function, Circuit) else None

    @cached_property
    def content_key(self) -> str:
        """A sha256 of the name, the widths and the products of 4096 fixed operand pairs."""
        rng = np.random.default_rng(0)
        ends = [operand_range(width, self.signed) for width in self.bits]
        first, second = (
            np.concatenate([rng.integers(low, high + 1, 4096), [low, low, high, high, 0]])
            for low, high in ends
        )
        second[-5:-1] = [ends[1][0], ends[1][1], ends[1][0], ends[1][1]]
        head = f"function {self.label} {self.bits} {self.signed} {self.bound} ".encode()
        products = self._product(first, second)
        return hashlib.sha256(head + products.astype("<i8").tobytes()).hexdigest()

    def _product(self, first: IntArray, second: IntArray) -> IntArray:
        first, second = np.broadcast_arrays(first, second)
        products = evaluate(self.function, first, second, self.vectorised)
        if products.size and int(np.abs(products).max()) > self.bound:
            worst = np.unravel_index(int(np.abs(products).argmax()), products.shape)
            raise DovetailError(
                f"{self.label}({first[worst]}, {second[worst]}) = {products[worst]} is beyond "
                f"max_abs={self.bound}; give dv.multiplier(..., max_abs=<the largest product>)"
            )
        return products

    def _find_factors(self) -> Factors | None:
        """Factors when the function is a masked array and all pairs can still be compared."""
        if not (self.vectorised and self._tabulable()):
            return None
        mask = find_mask(self._product, self.bits, self.signed)
        return None if mask is None else mask_factors(mask, self.bits, self.signed)

    def _find_max_abs(self) -> int:
        return self.bound

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        keep(self)


def from_callable(
    function: Callable[[Any, Any], Any],
    bits: int | Bits = 8,
    signed: bool = True,
    max_abs: int | None = None,
    vectorised: bool | None = None,
    label: str | None = None,
) -> Multiplier:
    """The multiplier ``function(first, second)`` over operand values.

    Up to 8 + 8 bits the function is tabulated over all pairs at once; above, it is evaluated on the
    operands, and ``max_abs`` (default ``2**(bits_first + bits_second)``) bounds its products.
    ``vectorised`` says whether it takes int64 arrays; by default it is tried, and compared with
    single calls on Python integers. It must return integers.

    >>> from_callable(lambda a, w: a * w if a > 0 else 0, bits=4)([3, -3], 5)
    array([15,  0])
    """
    width, signs = as_bits(bits), as_signed(signed)
    label = label or str(getattr(function, "__name__", type(function).__name__))
    if vectorised is None:
        vectorised = _is_vectorised(function, width, signs)
    if sum(width) <= TABULATED_BITS:
        rows, columns = (operand_values(n, signs) for n in width)
        grid = np.broadcast_arrays(rows[:, None], columns[None])
        products = evaluate(function, grid[0], grid[1], vectorised)
        limit = int(np.abs(products).max()) if max_abs is None else max_abs
        if int(np.abs(products).max()) > limit:
            raise DovetailError(
                f"{label} reaches {int(np.abs(products).max())}, beyond max_abs={max_abs}"
            )
        made = from_table(products, signs, width, label)
        return keep(replace(made, gates=function)) if isinstance(function, Circuit) else made
    bound = 1 << sum(width) if max_abs is None else max_abs
    if not is_whole(bound) or not 0 <= bound < 1 << 62:
        raise DovetailError(f"max_abs={max_abs!r}; give the largest product, a whole number")
    return keep(Function(function, width, signs, bound, vectorised, label))


def evaluate(
    function: Callable[[Any, Any], Any], first: IntArray, second: IntArray, vectorised: bool
) -> IntArray:
    """``function`` over arrays of one shape, in one call or pair by pair; integers only.

    >>> evaluate(max, np.array([1, 5]), np.array([3, 2]), vectorised=False)
    array([3, 5])
    """
    if vectorised:
        result = np.asarray(function(first.copy(), second.copy()))
    else:
        pairs = zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)
        result = np.asarray([function(a, w) for a, w in pairs])
        result = result.reshape(first.shape) if result.size == first.size else result
        if result.size == 0:
            result = result.astype(np.int64)
    if result.dtype.kind not in "iu" or result.shape != first.shape:
        raise DovetailError(
            f"{getattr(function, '__name__', function)!r} returned {result.dtype} of shape "
            f"{list(result.shape)} for operands of shape {list(first.shape)}; a multiplier returns "
            f"one integer for each pair"
        )
    return result.astype(np.int64)


def _is_vectorised(function: Callable[[Any, Any], Any], bits: Bits, signed: bool) -> bool:
    """Whether one call on arrays gives what single calls give, tried on 64 operand pairs."""
    rng = np.random.default_rng(1)
    low, high = zip(*(operand_range(width, signed) for width in bits), strict=True)
    first, second = (
        rng.integers(least, most + 1, 64) for least, most in zip(low, high, strict=True)
    )
    try:
        expected = evaluate(function, first, second, vectorised=False)
    except DovetailError:
        raise
    except Exception as error:
        # A function of arrays alone (it may call array methods) fails on plain integers.
        try:
            evaluate(function, first, second, vectorised=True)
        except Exception:
            raise DovetailError(
                f"{getattr(function, '__name__', function)!r} fails on operands "
                f"{first[0]} and {second[0]}: {type(error).__name__}: {error}. It is "
                f"called with two Python integers, or with two NumPy int64 arrays"
            ) from error
        return True
    try:
        found = evaluate(function, first, second, vectorised=True)
    except Exception:  # branches on values, or is a C-style scalar function
        return False
    return np.array_equal(found, expected)
