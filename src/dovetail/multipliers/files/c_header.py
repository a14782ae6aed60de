"""Tables in C headers: ``const int16_t lut[256][256] = {...};``, parsed, not compiled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.errors import DovetailError, unknown
from dovetail.multipliers.files.words import C_INTEGERS, COMMENT, read_text

__all__ = ["parse_header"]

_HEADER_TABLE = re.compile(r"\b(u?int(?:8|16|32|64)_t|unsigned\s+\w+|\w+)\s+(\w+)\s*"
                           r"\[\s*(\w*)\s*\]\s*\[\s*(\w+)\s*\]\s*=\s*\{")  # fmt: skip
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|\d+)")


def parse_header(path: Path, array: str | None = None) -> tuple[Any, str, bool]:
    """The constant 2-d array of a C header: (table, its name, whether entries are signed)."""
    text = COMMENT.sub(" ", read_text(path))
    found = {match.group(2): match for match in _HEADER_TABLE.finditer(text)}
    if not found:
        raise DovetailError(
            f"{path} holds no table; expected const int16_t lut[256][256] = {{...}};"
        )
    if array is None and len(found) > 1:
        raise DovetailError(
            f"{path} holds several tables; pick one with "
            f"function={' or '.join(repr(name) for name in found)}"
        )
    if array is not None and array not in found:
        raise unknown(f"table of {path}", array, found)
    match = found[array or next(iter(found))]
    body = text[match.end() : _closing_brace(text, match.end(), path)]
    numbers = _entries(path, match.group(2), match.group(1), _NUMBER.findall(body))
    leftover = _NUMBER.sub("", body).translate(str.maketrans("", "", "{},uUlL \t\r\n"))
    if leftover:
        raise DovetailError(
            f"{path}: {match.group(2)} holds {leftover[:20]!r}; its entries must be plain numbers"
        )
    rows, columns = match.group(3), match.group(4)
    if columns.isdigit() and rows.isdigit():
        shape = (int(rows), int(columns))
    else:  # sizes by macro, or left to the initialiser: a square table
        side = 1 << max(0, (numbers.size.bit_length() - 1) // 2)
        shape = (side, side)
    if numbers.size != shape[0] * shape[1]:
        raise DovetailError(
            f"{path}: {match.group(2)} holds {numbers.size} entries; expected "
            f"{shape[0]}x{shape[1]} = {shape[0] * shape[1]}"
        )
    return numbers.reshape(shape), match.group(2), not match.group(1).startswith("u")


def _entries(path: Path, name: str, kind: str, words: list[str]) -> Any:
    """The literals of an array, as C reads them: also octal ones, and within the array's type."""
    size, signed = C_INTEGERS.get(" ".join(kind.split()), (64, True))
    low, high = (-(1 << size - 1), (1 << size - 1) - 1) if signed else (0, (1 << size) - 1)
    numbers = []
    for word in words:
        octal = re.fullmatch(r"[+-]?0\d+", word)
        try:
            number = int(word, 8 if octal else 0)
        except ValueError:
            raise DovetailError(
                f"{path}: {name} holds {word}, which is octal in C and no octal number"
            ) from None
        if not low <= number <= min(high, (1 << 63) - 1):
            raise DovetailError(f"{path}: {name} holds {word}, which no {kind} does")
        numbers.append(number)
    return np.array(numbers, dtype=np.int64)


def _closing_brace(text: str, at: int, path: Path) -> int:
    depth = 1
    for match in re.compile(r"[{}]").finditer(text, at):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return match.start()
    raise DovetailError(f"{path}: the table's braces do not close")
