"""A multiplier, its input and its output as the native core takes them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dovetail.errors import DovetailError
from dovetail.multipliers.classes import Lookups
from dovetail.multipliers.operands import IntArray

__all__ = ["Input", "Multiplier", "Output", "Products", "Role"]


class Multiplier(ctypes.Structure):
    """``dv_multiplier``: the forms of a multiplier."""

    _fields_ = (
        *((n, ctypes.c_void_p) for n in ("first", "second", "constant", "entry", "classes")),
        *((n, ctypes.c_void_p) for n in ("step", "table")),
        ("second_unsigned", ctypes.c_int32),
    )


class Input(ctypes.Structure):
    """``dv_input``: the activations."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("kind", ctypes.c_int32),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("zero_point", "qmin", "qmax", "pad")),
    )


class Output(ctypes.Structure):
    """``dv_output``: where results go, and how they are finished."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("fused", ctypes.c_int32),
        ("zero_point", ctypes.c_int32),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


@dataclass(frozen=True, eq=False)
class Products:
    """``constant[w] + sum_r first[r, a] * second[r, w]``, one side unsigned, the other signed."""

    first: npt.NDArray[np.uint8]  # bytes of either kind
    second: npt.NDArray[np.uint8]
    constant: npt.NDArray[np.int32]
    second_unsigned: bool

    @classmethod
    def of(cls, first: IntArray, second: IntArray, constant: IntArray | None) -> Products:
        """First factors are moved into the range that the second ones leave to them.

        The multiple of the second that this takes off goes into the constant of the weight.
        """
        unsigned = bool(second.min() >= 0 and second.max() > 127)
        if not unsigned and (second.min() < -128 or second.max() > 127):
            raise DovetailError(
                f"second factors must fit 8 bits; they reach {second.min()}..{second.max()}"
            )
        low, high = first.min(axis=1), first.max(axis=1)
        if (high - low).max() > 255:
            raise DovetailError(
                f"first factors must fit 8 bits; they reach {first.min()}..{first.max()}"
            )
        least = -128 if unsigned else 0
        moved = np.where((low >= least) & (high <= least + 255), 0, low - least)
        whole = moved @ second if constant is None else constant + moved @ second
        return cls(
            np.ascontiguousarray((first - moved[:, None]).astype(np.uint8)),
            np.ascontiguousarray(second.astype(np.uint8)),
            whole.astype(np.int32),
            unsigned,
        )


class Role:
    """A multiplier as the core sees it, for one choice of which operand is a lookup's lane."""

    def __init__(self, products: Products | None, lookups: Lookups | None, table: int) -> None:
        self.rank = 0 if products is None else len(products.first)
        self.lookups = 0 if lookups is None else lookups.count
        self.tables: dict[str, npt.NDArray[Any]] = {}  # what the struct points to
        struct = Multiplier(table=table)
        if products is not None:
            constant = products.constant
            if lookups is not None:
                for name, values in (
                    ("entry", lookups.entry),
                    ("classes", lookups.classes),
                    ("step", lookups.step),
                ):
                    self._keep(struct, name, np.ascontiguousarray(values.astype(np.uint8)))
                constant = (constant + lookups.constant).astype(np.int32)
            self._keep(struct, "first", products.first)
            self._keep(struct, "second", products.second)
            self._keep(struct, "constant", constant)
            struct.second_unsigned = int(products.second_unsigned)
        self.struct = struct
        self.reference = ctypes.byref(struct)

    def _keep(self, struct: Multiplier, name: str, values: npt.NDArray[Any]) -> None:
        self.tables[name] = values
        setattr(struct, name, values.ctypes.data)
