"""An approximation of one variable as the native core takes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail.approximations import IBert, IntegerRoot, Newton, Pieces, Unary, function
from dovetail.approximations.integer import constants
from dovetail.approximations.newton import magic
from dovetail.approximations.piecewise import Piecewise
from dovetail.approximations.reductions import (
    Direct,
    Exponential,
    Gate,
    Mantissa,
    Reduction,
    Turn,
)
from dovetail.kernels.function_structs import KINDS, UnitStruct, rounding_of

__all__ = ["EXACT_ROOT", "Unit", "unit_of"]


@dataclass(frozen=True, eq=False)
class Unit:
    """A unit, and the memory that it points to."""

    struct: UnitStruct
    rows: Tensor | None = None


@lru_cache(maxsize=256)
def unit_of(approximation: Unary, name: str) -> Unit | None:
    """How the core computes a function by an approximation; None if it does not.

    >>> from dovetail.approximations import approximation
    >>> unit_of(approximation("pwl(16)"), "gelu").struct.count
    16
    >>> unit_of(approximation("pwl(16, posit(16, 1))"), "gelu") is None
    True
    """
    if type(approximation).evaluate is Piecewise.evaluate:
        assert isinstance(approximation, Piecewise)
        return _piecewise(approximation, name)
    make = _MAKERS.get(type(approximation))
    return None if make is None else make(approximation, name)


def _unit(kind: str, fmt: Any, rows: Tensor | None = None, **fields: Any) -> Unit | None:
    rounding = rounding_of(fmt)
    if rounding is None:
        return None
    struct = UnitStruct(kind=KINDS.index(kind), rounding=rounding, **fields)
    if rows is not None:
        struct.rows, struct.pitch = rows.data_ptr(), rows.shape[1]
    return Unit(struct, rows)


def _piecewise(approximation: Piecewise, name: str) -> Unit | None:
    known = function(name)
    reduction, pieces = approximation.reduction(known), approximation.pieces(known)
    count = len(pieces.starts)
    rows = pieces.rows_on(torch.device("cpu"))
    # As long as places that a search may look at, and never NaN-free behind the last piece.
    pitch = max(16, 1 << (count - 1).bit_length())
    padded = torch.full((len(rows), pitch), math.nan, dtype=torch.float64)
    padded[:, :count] = rows
    fields = _reduced(reduction) | {
        "count": count,
        "degree": pieces.degree,
        "first": pieces.starts[0],
        "steepness": _steepness(pieces),
    }
    return _unit(fields.pop("kind"), approximation.steps_format, padded, **fields)


def _reduced(reduction: Reduction) -> dict[str, Any]:
    if isinstance(reduction, Direct):
        is_x = isinstance(reduction.right, str)
        tails = {"left": reduction.left, "right": 0.0 if is_x else reduction.right}
        ends = {"low": reduction.low, "high": reduction.high}
        return {"kind": "direct", "order": int(is_x), **ends, **tails}
    if isinstance(reduction, Gate):
        order = int(reduction.odd) + 2 * int(reduction.times_x)
        return {"kind": "gate", "order": order, "high": reduction.cut}
    if isinstance(reduction, Exponential):
        return {"kind": "exponential"}
    if isinstance(reduction, Mantissa):
        return {"kind": "mantissa", "order": reduction.root}
    assert isinstance(reduction, Turn)
    return {"kind": "turn", "order": reduction.quarters}


def _steepness(pieces: Pieces) -> float:
    """Pieces per unit, if the core's guess is right or one too low for every number; else 0.

    The guess never falls, so that it need only be looked at where pieces begin, and just before.
    """
    starts = np.array(pieces.starts)
    last = len(starts) - 1
    if last == 0 or not pieces.is_uniform:
        return 0.0
    steepness = last / (starts[-1] - starts[0])

    def guess(t: Any) -> Any:
        return np.rint(np.clip((t - starts[0]) * steepness - 1.0, 0, last))

    place = np.arange(last + 1)
    before = guess(np.nextafter(starts, -np.inf))[1:]
    right = (guess(starts) >= place - 1).all() and (before <= place[:-1]).all()
    return float(steepness) if right else 0.0


def _newton(approximation: Newton, name: str) -> Unit | None:
    order = 1 if name == "reciprocal" else 2
    number, steps = (float(magic(approximation.format, order)),), approximation.steps
    return _unit("newton", approximation.format, order=order, steps=steps, magic=number)


def _integer_root(approximation: IntegerRoot, name: str) -> Unit | None:
    del name
    return _unit("integer_root", approximation.format, magic=(2.0**approximation.fraction,))


def _integer(approximation: IBert, name: str) -> Unit | None:
    numbers = constants(name, approximation.fraction)
    kind = "integer_exp" if name == "exp" else "integer_gelu"
    return _unit(kind, None, magic=(2.0**approximation.fraction, *numbers))


_MAKERS: dict[type, Callable[[Any, str], Unit | None]] = {
    Newton: _newton,
    IntegerRoot: _integer_root,
    IBert: _integer,
}

_exact_root = _unit("root", None)
assert _exact_root is not None

#: 1 / sqrt(x) itself.
EXACT_ROOT: Unit = _exact_root
