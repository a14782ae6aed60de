"""`from_file`: the multiplier in a file, by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dovetail.errors import DovetailError, unknown
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.files.c_function import load_c_function
from dovetail.multipliers.files.c_header import parse_header
from dovetail.multipliers.files.compare import compare
from dovetail.multipliers.files.delimited import read_delimited
from dovetail.multipliers.files.memory import read_memory, read_raw
from dovetail.multipliers.files.verilog import load_circuit
from dovetail.multipliers.files.words import named_circuit
from dovetail.multipliers.functions import from_callable
from dovetail.multipliers.operands import Bits, as_bits, as_signed
from dovetail.multipliers.table import from_table

__all__ = ["SUFFIXES", "from_file"]

_DESCRIPTIONS = (".c", ".v")  # say themselves how wide and of which sign the operands are
_PLAIN = {  # numbers alone
    ".hex": read_memory,
    ".mem": read_memory,
    ".bin": read_raw,
    ".csv": read_delimited,
    ".txt": read_delimited,
}
_HOLDING_NAMES = (*_DESCRIPTIONS, ".h", ".npz")
SUFFIXES = (".npy", ".npz", *_PLAIN, ".h", *_DESCRIPTIONS)


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

    ``.c``: a C function (`load_c_function`); ``.v``: combinational Verilog (`load_circuit`); both
    tabulated up to 8 + 8 bits and called above. ``.h``: a table ``const int16_t
    lut[256][256] = {...}``, which is parsed, not compiled; unsigned entries mean unsigned operands
    unless ``signed`` says otherwise. ``.npy``, ``.npz``: an array (`from_table`). ``.hex``,
    ``.mem``: the words of ``$writememh`` (`read_memory`). ``.bin``: little-endian words of 16 or
    32 bits (`read_raw`). ``.csv``, ``.txt``: a matrix, or rows ``a, w, product``
    (`read_delimited`).

    ``function`` names the C function, module or array where a file holds several. ``check`` is
    another multiplier, or anything `multiplier` takes, such as the source the table was made from:
    it must agree on every operand pair (on edges and 2**20 random pairs where there are more than
    2**24), and tells what files of plain numbers leave open, the width and the sign.

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
    if path.suffix not in _DESCRIPTIONS and max_abs is not None:
        raise DovetailError(
            f"{path}: max_abs= is for wide C functions and Verilog; a table shows it"
        )
    if path.suffix not in _HOLDING_NAMES and function is not None:
        raise DovetailError(f"{path}: function= picks from a {', '.join(_HOLDING_NAMES)} file")
    sign = None if signed is None else as_signed(signed)
    if check is None:
        return _read(path, sign, bits, function, max_abs)
    from dovetail.multipliers.registry import multiplier

    reference = multiplier(check)
    if path.suffix in _PLAIN and reference.bits is not None:
        sign = reference.signed if sign is None else sign
        bits = reference.bits if bits is None else bits
    made = _read(path, sign, bits, function, max_abs)
    compare(made, reference, str(path))
    return made


def _read(
    path: Path,
    signed: bool | None,
    bits: int | Bits | None,
    function: str | None,
    max_abs: int | None,
) -> Multiplier:
    if path.suffix in _PLAIN:
        width = None if bits is None else as_bits(bits, highest=20)
        return _PLAIN[path.suffix](path, signed, width)
    if path.suffix == ".c":
        compiled = load_c_function(path, function, bits, signed)
        label = compiled.__name__
        return from_callable(compiled, compiled.bits, compiled.signed, max_abs, True, label)
    if path.suffix == ".v":
        circuit = load_circuit(path, function, signed)
        if bits is not None and as_bits(bits) != circuit.bits:
            raise DovetailError(f"{path}: its operands have {circuit.bits} bits, not bits={bits}")
        label = circuit.__name__
        return from_callable(circuit, circuit.bits, circuit.signed, max_abs, True, label)
    if path.suffix == ".h":
        table, label, entries_signed = parse_header(path, function)
        return from_table(table, entries_signed if signed is None else signed, bits, label)
    named = named_circuit(path.stem)
    if signed is None:
        signed = True if named is None else named[1]
    return from_table(_array(path, function), signed, bits, path.stem)


def _array(path: Path, name: str | None) -> Any:
    """The array of a ``.npy`` file, or the one of a ``.npz`` file that ``name`` picks."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            names = list(found.files)
            if name is None and len(names) == 1:
                name = names[0]
            if not names:
                raise DovetailError(f"{path} holds no array")
            if name is None:
                raise DovetailError(
                    f"{path} holds several arrays; pick one with "
                    f"function={' or '.join(repr(name) for name in names)}"
                )
            if name not in names:
                raise unknown(f"array of {path}", name, names)
            return found[name]
    except DovetailError:
        raise
    except (ValueError, EOFError, OSError) as error:
        raise DovetailError(f"{path} is not a NumPy array file: {error}") from None
