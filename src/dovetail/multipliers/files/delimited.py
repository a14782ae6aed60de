"""Tables in plain text: a matrix of products, or one row for each pair of operands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from dovetail.errors import DovetailError
from dovetail.multipliers.files.words import as_products, read_text, sign_of
from dovetail.multipliers.operands import Bits, IntArray, as_bits, operand_range, operand_values
from dovetail.multipliers.table import Table, from_table

__all__ = ["read_delimited"]

_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|\d+)")
_BETWEEN = re.compile(r"\s*[,;]\s*|\s+")
_COMMENT = re.compile(r"#.*|//.*")


def read_delimited(path: Path, signed: bool | None, bits: Bits | None) -> Table:
    """The table in a text of numbers, decimal or ``0x...``, apart by commas, semicolons or spaces.

    Three numbers a row are ``a, w, product``, in any order of rows, every pair exactly once; the
    operands are values or codes. Otherwise the rows are those of the table, in code order. One
    heading row, of words alone, and comments (``#``, ``//``) pass. Signed products are values, or
    two's complement where none is negative.
    """
    rows = _rows(path)
    pairs = all(len(numbers) == 3 for _, numbers in rows)
    if pairs:
        table, shown = _from_pairs(path, rows, bits)
    else:
        table, shown = _matrix(path, rows), False
    negative = bool((table < 0).any())
    sign = sign_of(path, signed, shown or negative)
    sizes = tuple(size.bit_length() - 1 for size in table.shape)
    if not negative:
        table = as_products(table, (sizes[0], sizes[1]), sign)
    return from_table(table, sign, bits, path.stem)


def _rows(path: Path) -> list[tuple[int, list[int]]]:
    """(line, numbers) of every row; the first row may be a heading."""
    found: list[tuple[int, list[int]]] = []
    heading = False
    text = read_text(path)
    for line, row in enumerate(text.split("\n"), 1):
        words = _BETWEEN.split(_COMMENT.sub("", row).strip(" \t\r,;"))
        if words == [""]:
            continue
        wrong = next((word for word in words if not _NUMBER.fullmatch(word)), None)
        if wrong is not None:
            if found or heading or any(_NUMBER.fullmatch(word) for word in words):
                raise DovetailError(f"{path}:{line}: {wrong!r} is no whole number")
            heading = True
        else:
            found.append((line, [int(word, 0 if "x" in word.lower() else 10) for word in words]))
    if not found:
        raise DovetailError(f"{path} holds no numbers")
    return found


def _matrix(path: Path, rows: list[tuple[int, list[int]]]) -> IntArray:
    width = len(rows[0][1])
    for line, numbers in rows:
        if len(numbers) != width:
            raise DovetailError(
                f"{path}:{line}: {len(numbers)} numbers, where the first row has {width}; expected "
                f"the rows of a table, or three numbers a row: a, w, product"
            )
    return _int64(path, [numbers for _, numbers in rows])


def _from_pairs(
    path: Path, rows: list[tuple[int, list[int]]], bits: Bits | None
) -> tuple[IntArray, bool]:
    """The table, and whether an operand is negative."""
    numbers = _int64(path, [row for _, row in rows])
    width = bits or _pair_bits(numbers)
    shown = bool((numbers[:, :2] < 0).any())
    codes = []
    for side, size in enumerate(width):
        column = numbers[:, side]
        low, high = operand_range(size, bool(column.min() < 0))
        outside = np.flatnonzero((column < low) | (column > high))
        if outside.size:
            raise DovetailError(
                f"{path}:{rows[outside[0]][0]}: the operand {column[outside[0]]} is outside "
                f"{low}..{high} of {size} bits"
            )
        codes.append(column & (1 << size) - 1)
    place = codes[0] << width[1] | codes[1]
    counts = np.bincount(place, minlength=1 << sum(width))
    twice = np.flatnonzero(counts > 1)
    if twice.size:
        line = rows[np.flatnonzero(place == twice[0])[1]][0]
        first, second = numbers[np.flatnonzero(place == twice[0])[1], :2]
        raise DovetailError(f"{path}:{line}: the pair {first}, {second} is given twice")
    missing = np.flatnonzero(counts == 0)
    if missing.size:
        first, second = (
            operand_values(width[side], bool(numbers[:, side].min() < 0))[code]
            for side, code in enumerate(divmod(int(missing[0]), 1 << width[1]))
        )
        raise DovetailError(
            f"{path}: the pair {first}, {second} is missing ({missing.size} of {counts.size} are)"
        )
    table = np.empty(counts.size, dtype=np.int64)
    table[place] = numbers[:, 2]
    return table.reshape(1 << width[0], 1 << width[1]), shown


def _pair_bits(numbers: IntArray) -> Bits:
    """The widths that hold every operand of the file."""
    widths = []
    for column in (numbers[:, 0], numbers[:, 1]):
        low, high = int(column.min()), int(column.max())
        signed = 1 if low < 0 else 0
        widths.append(max(high.bit_length(), (-low - 1).bit_length() if signed else 0) + signed)
    return as_bits((max(1, widths[0]), max(1, widths[1])), highest=12)


def _int64(path: Path, rows: list[list[int]]) -> IntArray:
    try:
        return np.array(rows, dtype=np.int64)
    except OverflowError:
        raise DovetailError(f"{path} holds a number beyond 64 bits; products fit int32") from None
