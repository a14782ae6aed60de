"""A multiplier as a C function: masked products where it is an array of partial products, else its
table; compiled with ``-DDOVETAIL_CHECK`` it is a program that checks every product."""

from __future__ import annotations

import numpy as np

from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.factorisation import mask_matrix
from dovetail.multipliers.operands import IntArray, operand_range
from dovetail.multipliers.partial_products import PartialProducts

__all__ = ["c_code", "checksum"]

_START, _PRIME = 0xCBF29CE484222325, 0x100000001B3  # of the hash FNV-1a
_ROW = 16


def c_code(m: Multiplier, name: str) -> str:
    """The source; ``int32_t <name>(int8_t a, int8_t w)`` for signed 8-bit operands.

    >>> from dovetail.multipliers import multiplier
    >>> print(c_code(multiplier("truncate", drop_first=2), "m").split("#ifdef")[0].rstrip())
    // truncate(bits=8, drop_first=2, drop_second=0, signed=True)
    #include <stdint.h>
    <BLANKLINE>
    int32_t m(int8_t a, int8_t w) {
      return (int32_t)(a & -4) * (w & -1);
    }
    """
    bits, signed = m._width(), m.signed
    wide = "int64_t" if sum(bits) > 30 else "int32_t"
    first, second = (f"{'' if signed else 'u'}int{8 if n <= 8 else 16}_t" for n in bits)
    if isinstance(m, PartialProducts):
        table, value = "", _masked_products(m, wide)
    else:
        table = _table(m)
        value = f"products[a & {(1 << bits[0]) - 1}][w & {(1 << bits[1]) - 1}]"
    body = f"{wide} {name}({first} a, {second} w) {{\n  return {value};\n}}\n"
    check = _check(m, name) if m._tabulable() else ""
    return f"// {m!r}\n#include <stdint.h>\n\n{table}{body}{check}"


def checksum(products: IntArray) -> int:
    """What the check of the source compares: over all products, rows and columns ascending,
    ``h = (h ^ product) * 0x100000001b3`` modulo 2**64.

    >>> checksum(np.array([[0]])) == 0xCBF29CE484222325 * 0x100000001B3 % 2**64
    True
    """
    total = _START
    for product in products.ravel().tolist():
        total = (total ^ (product & (1 << 64) - 1)) * _PRIME & (1 << 64) - 1
    return total


def _masked_products(m: PartialProducts, wide: str) -> str:
    """One product for all rows of the array that keep the same columns."""
    matrix = mask_matrix(m.mask, m.bits)
    terms = []
    for columns in np.unique(matrix[matrix.any(axis=1)], axis=0)[::-1]:
        rows = (matrix == columns).all(axis=1)
        sides = (
            _kept(side, width, m.signed)
            for side, width in zip((rows, columns), m.bits, strict=True)
        )
        a, w = sides
        terms.append(f"({wide})(a & {a}) * (w & {w})")
    if not terms:
        terms.append("0 * (a & w)")
    if m.constant:
        terms.append(f"{m.constant}")
    return "\n    + ".join(terms)


def _kept(bits: IntArray, width: int, signed: bool) -> int:
    """The mask of an operand; with the sign bit all bits above it are kept too."""
    mask = sum(1 << place for place in range(width) if bits[place])
    return mask - (1 << width) if signed and bits[width - 1] else mask


def _table(m: Multiplier) -> str:
    rows, columns = m._products.shape
    lines = []
    for row in m._products.tolist():
        parts = (row[at : at + _ROW] for at in range(0, columns, _ROW))
        inner = ",\n   ".join(", ".join(map(str, part)) for part in parts)
        lines.append(f"  {{{inner}}}")
    body = ",\n".join(lines)
    return f"static const int32_t products[{rows}][{columns}] = {{\n{body}\n}};\n\n"


def _check(m: Multiplier, name: str) -> str:
    (a_low, a_high), (w_low, w_high) = (operand_range(n, m.signed) for n in m._width())
    order = [np.arange(low, high + 1) for low, high in ((a_low, a_high), (w_low, w_high))]
    expected = checksum(np.asarray(m(order[0][:, None], order[1][None])))
    return f"""\

#ifdef DOVETAIL_CHECK
#include <stdio.h>
int main(void) {{
  uint64_t h = {_START:#x}u;
  for (int a = {a_low}; a <= {a_high}; ++a)
    for (int w = {w_low}; w <= {w_high}; ++w)
      h = (h ^ (uint64_t)(int64_t){name}(a, w)) * {_PRIME:#x}u;
  int wrong = h != {expected:#x}u;
  puts(wrong ? "{name}: some products are wrong" : "{name}: all products are right");
  return wrong;
}}
#endif
"""
