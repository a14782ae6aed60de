"""`dovetail multiplier import` and `fit`: a file checked, stored, and told what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dovetail.cli.console import percent, say, say_json, table
from dovetail.cli.multiplier.options import Bits, Check, Function, Signed, read
from dovetail.cli.multiplier.sheets import facts_of, sheet
from dovetail.cli.options import Json
from dovetail.errors import DovetailError, unknown

if TYPE_CHECKING:
    from dovetail.multipliers import Multiplier

__all__ = ["fit", "import_", "stored"]

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A table (.npy .npz .csv .txt .hex .mem .bin .h), a C function or Verilog.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Store it: a table (.npy), C (.c) or Verilog (.v, where its gates are known).",
        show_default=False,
    ),
]
Most = Annotated[int, typer.Option(metavar="N", min=1, help="How many structures to show.")]


def import_(
    file: File,
    signed: Signed = None,
    bits: Bits = None,
    function: Function = None,
    check: Check = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Read a multiplier from a file, check it, describe it, store it.

    \b
    Examples:
      dovetail multiplier import mine.v --check mine.c --out mine.npy
    """
    m = _integers(file, signed, bits, function, check)
    line = None if out is None else stored(m, out)
    facts = {**facts_of(m), "checked_against": check, "use": line}
    if json:
        say_json(facts)
        return
    say(sheet(facts, m.explain()))
    if check is not None:
        say(f"Equal to {check} on every operand pair that was compared.")
    if line is not None:
        say(f"Stored, read back and compared: {line}")


def fit(
    file: File,
    signed: Signed = None,
    bits: Bits = None,
    function: Function = None,
    most: Most = 8,
    json: Json = False,
) -> None:
    """Say what a table of products is, or what comes nearest to it.

    Compared are the exact product, the families, arrays of partial products, a polynomial.

    \b
    Examples:
      dovetail multiplier fit table.npy
    """
    from dovetail.multipliers.fitting import fit as fits

    m = _integers(file, signed, bits, function, None)
    found = fits(m, most)
    if json:
        say_json({"name": m.name, "fits": [one.to_dict() for one in found]})
        return
    shown = table(
        f"What comes nearest to {m.name}",
        "Structure",
        ">Equal products",
        ">RMS difference",
        ">Worst",
    )
    for one in found:
        shown.add_row(
            one.spelling or f"{one.kind} in the operands",
            percent(one.equal),
            f"{one.rms:.4g}",
            f"{one.worst:.6g}",
        )
    say(shown)
    exact = next((one for one in found if one.exact), None)
    if exact is not None:
        say(f"It is {exact.spelling}: every product is the same.")
    else:
        say("None of them is the same; the file itself stays the multiplier.")


def _integers(
    file: Path, signed: bool | None, bits: str | None, function: str | None, check: str | None
) -> Multiplier:
    m: Any = read(str(file), signed, bits, function, check)
    return m  # type: ignore[no-any-return]


def stored(m: Multiplier, place: Path, name: str | None = None) -> str:
    """Write ``m``, read it back, compare; the Python that makes it again. ``name`` is that of the
    function or module."""
    import numpy as np

    from dovetail._files import target
    from dovetail.multipliers import multiplier

    path = target(place)
    more: dict[str, Any] = {}
    if path.suffix == ".npy":
        np.save(path, m.table().numpy())
        more = {} if m.signed else {"signed": False}
    elif path.suffix == ".c":
        path.write_text(m.to_c(name), encoding="utf-8")
        more = {} if m.bits == (8, 8) else {"bits": m.bits, "signed": m.signed}
    elif path.suffix == ".v":
        path.write_text(m.to_verilog(name), encoding="utf-8")
    else:
        raise unknown("kind of file", path.suffix or str(path), (".npy", ".c", ".v"))
    back = multiplier(path, check=m, **more)
    if (back.bits, back.signed) != (m._width(), m.signed):
        raise DovetailError(f"{path} reads back as {back._operands()} operands")
    given = "".join(f", {key}={value!r}" for key, value in more.items())
    return f"dv.multiplier({str(path)!r}{given})"
