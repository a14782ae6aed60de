"""Memory images: the text of Verilog's ``$writememh`` and ``$readmemh``, and raw words."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from dovetail.errors import DovetailError
from dovetail.multipliers.files.words import (
    COMMENT,
    as_products,
    named_circuit,
    operand_bits,
    read_text,
    sign_of,
)
from dovetail.multipliers.operands import Bits
from dovetail.multipliers.table import Table, from_table

__all__ = ["read_memory", "read_raw"]

_MOST = 1 << 24


def read_memory(path: Path, signed: bool | None, bits: Bits | None) -> Table:
    """The table in a file of hexadecimal words, one product an address.

    The address is the first operand's code, then the second's: ``{a, w}``, or ``a * 2**b + w``.
    ``@`` sets it, in hexadecimal; comments and underscores pass. Every address up to the last is
    given exactly once, and no digit is ``x`` or ``z``; anything else is refused with its line.
    """
    text = read_text(path)
    plain = COMMENT.sub(lambda found: " " + "\n" * found.group().count("\n"), text)
    if "/*" in plain:
        raise DovetailError(f"{path}: a comment that begins with /* does not end")
    words: dict[int, int] = {}
    address = 0
    for line, row in enumerate(plain.split("\n"), 1):
        for word in row.split():
            if word.startswith("@"):
                address = _hexadecimal(word[1:], path, line)
                continue
            if address in words:
                raise DovetailError(f"{path}:{line}: the address {address:x} is given twice")
            if address >= _MOST:
                raise DovetailError(
                    f"{path}:{line}: the address {address:x} is beyond a table of 12 + 12 bits"
                )
            words[address] = _hexadecimal(word, path, line)
            address += 1
    entries = max(words, default=-1) + 1
    if len(words) != entries:
        missing = next(place for place in range(entries) if place not in words)
        raise DovetailError(
            f"{path}: the address {missing:x} is missing ({entries - len(words)} of {entries} are)"
        )
    width = operand_bits(path, entries, bits)
    if max(words.values()) >> 32:
        raise DovetailError(f"{path} holds words of more than 32 bits; products must fit int32")
    values = np.fromiter((words[place] for place in range(entries)), np.int64, entries)
    sign = sign_of(path, signed, shown=False)
    table = as_products(values, width, sign).reshape(1 << width[0], 1 << width[1])
    return from_table(table, sign, width, path.stem)


def read_raw(path: Path, signed: bool | None, bits: Bits | None) -> Table:
    """The table in a file of little-endian words of 16 or 32 bits, in the order of `read_memory`.

    Of the two word sizes the one holds for which the file is a whole table.
    """
    data = path.read_bytes()
    named = named_circuit(path.stem)
    wanted = bits or (None if named is None else named[0])
    for size in (2, 4):
        entries = len(data) // size
        power = entries.bit_length() - 1
        square = entries > 1 and entries == 1 << power and power % 2 == 0
        whole = entries == 1 << sum(wanted) if wanted else square
        if entries * size == len(data) and whole:
            break
    else:
        count = 1 << sum(wanted or (8, 8))
        raise DovetailError(
            f"{path} holds {len(data)} bytes; expected {2 * count} (words of 16 bits) or "
            f"{4 * count} (of 32) for bits={wanted or (8, 8)}; give other widths by bits="
        )
    sign = sign_of(path, signed, shown=False)
    width = operand_bits(path, entries, bits)
    values = np.frombuffer(data, f"<{'i' if sign else 'u'}{size}").astype(np.int64)
    return from_table(values.reshape(1 << width[0], 1 << width[1]), sign, width, path.stem)


def _hexadecimal(word: str, path: Path, line: int) -> int:
    digits = word.replace("_", "")
    if re.fullmatch(r"[0-9a-fA-F]+", digits):
        return int(digits, 16)
    if re.fullmatch(r"[0-9a-fA-FxXzZ?]+", digits):
        raise DovetailError(
            f"{path}:{line}: '{word}' holds unknown digits (x, z); every product must be known"
        )
    raise DovetailError(f"{path}:{line}: '{word}' is no hexadecimal word")
