"""What the readers share: text, the integers of C, and what files of plain numbers leave open, how
wide the operands are, and what the sign bit is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from dovetail.errors import DovetailError
from dovetail.multipliers.operands import Bits, IntArray

__all__ = [
    "COMMENT",
    "C_INTEGERS",
    "as_products",
    "named_circuit",
    "operand_bits",
    "read_text",
    "sign_of",
]

#: The comments of C and of Verilog.
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
#: The integers of C by their widths and signs.
C_INTEGERS = {
    "int8_t": (8, True),
    "uint8_t": (8, False),
    "int16_t": (16, True),
    "uint16_t": (16, False),
    "int32_t": (32, True),
    "uint32_t": (32, False),
    "int64_t": (64, True),
    "uint64_t": (64, False),
    "int": (32, True),
    "unsigned int": (32, False),
}
_CIRCUIT = re.compile(r"mul(\d+)(?:x(\d+))?([us])(?![a-z])")


def read_text(path: Path) -> str:
    """A source's text without a byte-order mark; what is no UTF-8 stands in it as U+FFFD."""
    return path.read_text(encoding="utf-8-sig", errors="replace")


def named_circuit(name: str) -> tuple[Bits, bool] | None:
    """The operands' widths and sign that a circuit's name tells.

    >>> named_circuit("mul8x4u_0AB"), named_circuit("mul12s_2PP"), named_circuit("table")
    (((8, 4), False), ((12, 12), True), None)
    """
    found = _CIRCUIT.match(name)
    if found is None:
        return None
    first = int(found.group(1))
    return (first, int(found.group(2) or first)), found.group(3) == "s"


def sign_of(path: Path, signed: bool | None, shown: bool) -> bool:
    """Whether the operands of a file are signed: as said, as negative numbers in it show, or as its
    name tells. Nothing else is guessed from."""
    if shown and signed is False:
        raise DovetailError(f"{path} holds negative numbers, which no unsigned multiplier has")
    named = named_circuit(path.stem)
    if signed is not None or shown:
        return True if shown else bool(signed)
    if named is None:
        raise DovetailError(
            f"{path} does not say whether its operands are signed; give signed=True (codes and "
            f"products are two's complement) or signed=False, or check=<its source>"
        )
    return named[1]


def operand_bits(path: Path, entries: int, bits: Bits | None) -> Bits:
    """The widths of a table of so many entries: as said, as the file's name tells, or equal ones.

    >>> operand_bits(Path("x.hex"), 65536, None)
    (8, 8)
    """
    named = named_circuit(path.stem)
    if bits is None and named is not None and 1 << sum(named[0]) == entries:
        bits = named[0]
    if bits is None:
        width = entries.bit_length() - 1
        if entries < 4 or entries != 1 << width or width % 2:
            raise DovetailError(
                f"{path} holds {entries} products; expected 65536 for 8-bit operands (a power of "
                f"four), or give bits=(<input>, <weight>)"
            )
        bits = (width // 2, width // 2)
    if 1 << sum(bits) != entries:
        raise DovetailError(
            f"{path} holds {entries} products; expected {1 << sum(bits)} for bits={bits}"
        )
    return bits


def as_products(words: IntArray, bits: Bits, signed: bool) -> IntArray:
    """The products that non-negative words stand for.

    Two's complement when signed: the sign is the highest bit that any word sets, at least the top
    one of as many bits as both operands have; so words of 16 bits and words that were
    sign-extended to 20 or 32 are read alike.

    >>> as_products(np.array([5, 65535]), (8, 8), True)
    array([ 5, -1])
    >>> as_products(np.array([5, 2**32 - 1]), (8, 8), True)
    array([ 5, -1])
    """
    if not signed:
        return words
    width = max(sum(bits), int(words.max()).bit_length())
    return np.where(words >> (width - 1) & 1, words - (1 << width), words)
