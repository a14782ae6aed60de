"""What is multiplied or added, as far as its cost goes: integers and floats of so many bits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

import torch

from dovetail.errors import DovetailError
from dovetail.formats import FloatFormat, Format, IntFormat
from dovetail.formats import format as to_format
from dovetail.formats.base import Same
from dovetail.formats.fixed import FixedFormat

__all__ = [
    "Float",
    "Integer",
    "Named",
    "Operand",
    "Pair",
    "of_dtype",
    "of_format",
    "read",
    "read_pair",
]


@dataclass(frozen=True)
class Integer:
    """A number of ``bits``, signed or not."""

    bits: int

    def __str__(self) -> str:
        return f"int{self.bits}"


@dataclass(frozen=True)
class Float:
    """A number with ``exponent`` bits and a significand of ``significand`` bits, the leading one
    counted."""

    exponent: int
    significand: int

    def __str__(self) -> str:
        return _NAMES.get(
            (self.exponent, self.significand), f"e{self.exponent}m{self.significand - 1}"
        )


@dataclass(frozen=True)
class Named:
    """A number of another kind, such as a posit: known only where a table names it."""

    spelling: str

    def __str__(self) -> str:
        return self.spelling


Operand: TypeAlias = Integer | Float | Named
Pair: TypeAlias = tuple[Operand, Operand]

_NAMES = {(8, 24): "fp32", (5, 11): "fp16", (8, 8): "bf16", (11, 53): "fp64"}
_WHOLE = re.compile(r"u?int(\d+)")


def read(text: str) -> Operand:
    """The operand that a table names.

    >>> read("int32"), read("bf16")
    (Integer(bits=32), Float(exponent=8, significand=8))
    """
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        return Integer(int(whole[1]))
    if text == "fp64":
        return Float(11, 53)
    found = of_format(to_format(text))
    if found is None:
        raise DovetailError(f"'{text}' is no number format that operations cost anything in")
    return found


def read_pair(text: str) -> Pair:
    """The two operands of a product: ``int8``, or ``int8 x int4``.

    >>> read_pair("int8 x int4")
    (Integer(bits=8), Integer(bits=4))
    """
    first, _, second = text.partition(" x ")
    return read(first.strip()), read((second or first).strip())


def of_format(fmt: Format) -> Operand | None:
    """What a format's values are; None where it leaves them as they are."""
    if isinstance(fmt, Same):
        return None
    if isinstance(fmt, (IntFormat, FixedFormat)):
        return Integer(fmt.bits)
    if isinstance(fmt, FloatFormat):
        return Float(fmt.exponent, fmt.mantissa + 1)
    return Named(fmt.spelling)


def of_dtype(dtype: torch.dtype) -> Operand:
    """What torch computes with.

    >>> of_dtype(torch.bfloat16)
    Float(exponent=8, significand=8)
    """
    widths = {
        torch.float32: Float(8, 24),
        torch.float64: Float(11, 53),
        torch.float16: Float(5, 11),
        torch.bfloat16: Float(8, 8),
    }
    return widths.get(dtype, Integer(dtype.itemsize * 8))
