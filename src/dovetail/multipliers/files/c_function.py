"""A C function as a multiplier: found in the source, compiled on the user's machine, called.

Nothing runs at import. The shared object is kept in the user's cache folder under a digest of the
preprocessed source, so a changed file, header or function name is a new one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.errors import DovetailError, unknown
from dovetail.multipliers.files.words import C_INTEGERS, COMMENT, named_circuit, read_text
from dovetail.multipliers.operands import Bits, IntArray, as_bits, as_signed

__all__ = ["CFunction", "load_c_function"]

_TYPE = r"(u?int(?:8|16|32|64)_t|unsigned\s+int|int)"
_DEFINITION = re.compile(
    rf"\b{_TYPE}\s+(\w+)\s*\(\s*(?:const\s+)?{_TYPE}\s+\w+\s*,\s*(?:const\s+)?{_TYPE}\s+\w+\s*\)\s*\{{"
)

_WRAPPER = """
void dovetail_products(const int64_t *a, const int64_t *w, int64_t *y, int64_t n) {{
  for (int64_t i = 0; i < n; ++i)
    y[i] = (int64_t){name}(({first})(a[i] & {first_mask}), ({second})(w[i] & {second_mask}));
}}
"""


@dataclass(frozen=True)
class CFunction:
    """A compiled ``f(a, w)`` over int64 arrays. Pickles as its preprocessed source."""

    source: str
    bits: Bits
    signed: bool
    unsigned_result: bool
    __name__: str

    def __call__(self, first: IntArray, second: IntArray) -> IntArray:
        a, w = np.broadcast_arrays(np.asarray(first), np.asarray(second))
        a, w = (np.array(side, dtype=np.int64, order="C") for side in (a, w))
        products = np.empty(a.shape, dtype=np.int64)
        pointers = [side.ctypes.data_as(ctypes.c_void_p) for side in (a, w, products)]
        self._products(*pointers, ctypes.c_int64(a.size))
        if self.signed and self.unsigned_result:
            shift = 64 - sum(self.bits)
            products = (products << shift) >> shift
        return products

    @cached_property
    def _products(self) -> Any:
        function = ctypes.CDLL(str(_compiled(self.source, self.__name__))).dovetail_products
        function.restype = None
        return function

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_products"}


def load_c_function(
    path: str | Path,
    function: str | None = None,
    bits: int | Bits | None = None,
    signed: bool | None = None,
) -> CFunction:
    """The function of two integers that a C file defines.

    ``function`` picks one of several. Operands get the width and sign of the parameter types; for
    wider types than the circuit (12 bits in ``int16_t``, ``uint64_t`` everywhere) a name such as
    ``mul12s_2PP`` tells them, else ``bits=`` and ``signed=`` do. A signed operand in an unsigned
    parameter is passed as its two's-complement code, and the result is read back the same way.

    >>> load_c_function("mul12s_2PP.c")(100, -3)  # doctest: +SKIP
    array(-300)
    """
    path = Path(path)
    source = read_text(path)
    plain = COMMENT.sub(" ", source)
    found = {match.group(2): match.group(1, 3, 4) for match in _DEFINITION.finditer(plain)}
    name = _choose(path, function, found)
    result, *parameters = (" ".join(kind.split()) for kind in found[name])
    circuit = named_circuit(name)
    sizes = [C_INTEGERS[kind] for kind in parameters]
    if signed is None:
        signed = circuit[1] if circuit else sizes[0][1] and sizes[1][1]
    if bits is None:
        if circuit:
            bits = circuit[0]
        elif sizes[0][0] == sizes[1][0] == 8:
            bits = 8
        else:
            raise DovetailError(
                f"{path}: {name}({parameters[0]}, {parameters[1]}) does not tell its operand "
                f"width; give dv.multiplier('{path.name}', bits=12, signed={signed})"
            )
    width, signed = as_bits(bits), as_signed(signed)
    masks = []
    for kind, (size, holds_sign), needed in zip(parameters, sizes, width, strict=True):
        if needed + (holds_sign and not signed) > size:
            raise DovetailError(
                f"{path}: {name} takes {kind}, which cannot hold "
                f"{'signed' if signed else 'unsigned'} {needed}-bit operands"
            )
        masks.append(-1 if holds_sign or not signed else (1 << needed) - 1)
    wrapper = _WRAPPER.format(
        name=name,
        first=parameters[0],
        second=parameters[1],
        first_mask=f"INT64_C({masks[0]})",
        second_mask=f"INT64_C({masks[1]})",
    )
    unit = f"#include <stdint.h>\n{source}\n{wrapper}"
    text = _cc(["-E", "-P", "-x", "c", "-I", str(path.parent.resolve()), "-"], path, unit)
    return CFunction(text, width, signed, not C_INTEGERS[result][1], name)


def _choose(path: Path, function: str | None, found: dict[str, Any]) -> str:
    if not found:
        raise DovetailError(
            f"{path} defines no multiplier; expected a function of two integers, such as "
            f"int16_t f(int8_t a, int8_t b) {{...}}, with types {', '.join(C_INTEGERS)}"
        )
    if function is None:
        if len(found) > 1:
            raise DovetailError(
                f"{path} defines several functions of two integers; pick one with "
                f"function={' or '.join(repr(name) for name in found)}"
            )
        return next(iter(found))
    if function not in found:
        raise unknown(f"function of {path}", function, found)
    return function


def _compiled(source: str, name: str) -> Path:
    """The shared object for a preprocessed source, from the cache or freshly compiled."""
    digest = hashlib.sha256(" ".join(_compiler()).encode() + b"\0" + source.encode()).hexdigest()
    folder = _cache_folder()
    target = folder / f"{digest[:32]}.so"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        unit, shared = Path(scratch) / "multiplier.i", Path(scratch) / "multiplier.so"
        unit.write_text(source, encoding="utf-8")
        _cc(["-O2", "-fwrapv", "-fPIC", "-shared", "-w", str(unit), "-o", str(shared)], name)
        shared.replace(target)
    return target


def _cc(arguments: list[str], what: str | Path, text: str | None = None) -> str:
    """Run the C compiler; its complaints become a `DovetailError`."""
    command = [*_compiler(), *arguments]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DovetailError(
            f"{what} needs a C compiler, and {command[0]!r} was not found; install one (gcc or "
            f"clang), set CC=<compiler>, or import the multiplier's table as .npy instead"
        ) from None
    except OSError as error:
        raise DovetailError(
            f"{what} needs a C compiler, and {command[0]!r} is none: {error.strerror}; set "
            "CC=<compiler>"
        ) from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or ["(no message)"]
        raise DovetailError(f"{what} does not compile with {command[0]}: " + "; ".join(lines[:3]))
    return done.stdout


def _compiler() -> list[str]:
    given = os.environ.get("CC", "")
    try:
        return shlex.split(given) or ["cc"]
    except ValueError as error:
        raise DovetailError(f"CC={given!r} is no command ({error}); set CC=<compiler>") from None


def _cache_folder() -> Path:
    """``DOVETAIL_CACHE``, else the platform's folder for caches."""
    given = os.environ.get("DOVETAIL_CACHE")
    if given:
        return Path(given) / "multipliers"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "dovetail" / "multipliers"
