"""Multipliers from files: ``.npy`` tables, C functions, C header tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.errors import DovetailError, unknown
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.c_source import _COMMENT, load_c_function
from dovetail.multipliers.functions import from_callable
from dovetail.multipliers.operands import Bits
from dovetail.multipliers.table import from_table

__all__ = ["SUFFIXES", "compare", "from_file"]

SUFFIXES = (".npy", ".c", ".h")

_HEADER_TABLE = re.compile(r"\b(u?int(?:8|16|32|64)_t|unsigned\s+\w+|\w+)\s+(\w+)\s*"
                           r"\[\s*(\w*)\s*\]\s*\[\s*(\w+)\s*\]\s*=\s*\{")  # fmt: skip
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|\d+)")


def from_file(
    path: str | Path,
    *,
    signed: bool | None = None,
    bits: int | Bits | None = None,
    function: str | None = None,
    max_abs: int | None = None,
    check: Any = None,
) -> Multiplier:
    """The multiplier in a file, by its suffix.

    ``.npy``: a table (`from_table`). ``.c``: a C function (`load_c_function`), tabulated up to
    8 + 8 bits and called above. ``.h``: a table ``const int16_t lut[256][256] = {...}``, which is
    parsed, not compiled; unsigned entries mean unsigned operands unless ``signed`` says otherwise.
    ``function`` names the C function or the C array where a file holds several. ``check`` is
    another multiplier, or anything `multiplier` takes, that must agree on every operand pair.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/zero.npy", np.zeros((16, 16), dtype=np.int32))
    ...     from_file(folder + "/zero.npy", check="array(mask=0, bits=4)").name
    'zero'
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise DovetailError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DovetailError(f"{path}: no such file (seen from {Path.cwd()})")
    if path.suffix != ".c" and max_abs is not None:
        raise DovetailError(f"{path}: max_abs= is for wide C functions; a table shows its own")
    made: Multiplier
    if path.suffix == ".c":
        compiled = load_c_function(path, function, bits, signed)
        made = from_callable(
            compiled,
            compiled.bits,
            compiled.signed,
            max_abs,
            vectorised=True,
            label=compiled.__name__,
        )
    elif path.suffix == ".h":
        table, label, entries_signed = parse_header(path, function)
        made = from_table(table, entries_signed if signed is None else signed, bits, label)
    else:
        if function is not None:
            raise DovetailError(f"{path}: function= picks from a .c or .h file")
        try:
            table = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DovetailError(f"{path} is not a NumPy array file: {error}") from None
        made = from_table(table, True if signed is None else signed, bits, path.stem)
    if check is not None:
        from dovetail.multipliers.registry import multiplier

        compare(made, multiplier(check), str(path))
    return made


def parse_header(path: Path, array: str | None = None) -> tuple[Any, str, bool]:
    """The constant 2-d array of a C header: (table, its name, whether entries are signed)."""
    text = _COMMENT.sub(" ", path.read_text(encoding="utf-8", errors="replace"))
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
    numbers = np.array([int(word, 0) for word in _NUMBER.findall(body)], dtype=np.int64)
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


def compare(made: Multiplier, reference: Multiplier, what: str) -> None:
    """Refuse ``made`` unless it gives the reference's product for every operand pair.

    >>> from dovetail.multipliers.registry import multiplier
    >>> compare(multiplier("drum(k=8)"), multiplier("exact"), "drum with a full core")
    """
    if reference.bits is None and made.bits is not None:
        reference = reference.bind(made.bits, made.signed)
    if (made.bits, made.signed) != (reference.bits, reference.signed):
        raise DovetailError(
            f"{what} multiplies {made._operands()} operands, check={reference!r} "
            f"{reference._operands()} ones"
        )
    ours, theirs = made.table().numpy(), reference.table().numpy()
    wrong = ours != theirs
    if not wrong.any():
        return
    row, column = np.argwhere(wrong)[0]
    message = (
        f"{what} differs from {reference!r} in {int(wrong.sum())} of {wrong.size} products, first "
        f"at codes [{row}, {column}]: {ours[row, column]} instead of {theirs[row, column]}"
    )
    if made.signed:
        half = [size // 2 for size in wrong.shape]
        signs = ("+", "-")
        shares = (
            f"{signs[i]}{signs[j]} {quarter.mean():.1%}"
            for i, band in enumerate((wrong[: half[0]], wrong[half[0] :]))
            for j, quarter in enumerate((band[:, : half[1]], band[:, half[1] :]))
        )
        message += f"; share wrong by operand signs: {', '.join(shares)}"
    raise DovetailError(message)


def _closing_brace(text: str, at: int, path: Path) -> int:
    depth = 1
    for match in re.compile(r"[{}]").finditer(text, at):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return match.start()
    raise DovetailError(f"{path}: the table's braces do not close")
