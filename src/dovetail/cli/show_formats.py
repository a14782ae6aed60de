"""`dovetail show formats | format NAME`: number formats, their facts and values."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dovetail.cli.console import say, say_json, spelt, table, width
from dovetail.cli.number_line import number_line
from dovetail.cli.options import Json
from dovetail.errors import DovetailError

if TYPE_CHECKING:
    from dovetail.formats import Format

__all__ = ["add_to"]

_FACTS = (
    "bits",
    "bytes_per_element",
    "block",
    "axis",
    "min",
    "max",
    "emin",
    "emax",
    "smallest_normal",
    "smallest_subnormal",
    "has_inf",
    "has_nan",
    "has_negative_zero",
    "is_static",
    "rounding",
)


def add_to(app: typer.Typer) -> None:
    """Make these sub-commands ones of `app`."""
    app.command()(formats)
    app.command("format")(one_format)


def formats(json: Json = False) -> None:
    """The number formats and their facts.

    \b
    Example:
      dovetail show formats
    """
    from dovetail.formats import IntFormat, format_examples
    from dovetail.formats import format as to_format
    from dovetail.formats.observers import OBSERVERS

    known = {}
    for name in format_examples():
        with contextlib.suppress(DovetailError):  # a plugin's name that cannot stand alone
            known[name] = to_format(name)
    rows = [_facts(name, fmt) for name, fmt in known.items()]
    if json:
        say_json(rows)
        return
    integers = table("Integer formats", "Name", ">Lowest code", ">Highest code")
    others = table("Formats", "Name", ">Bits", ">Bytes", ">Block", ">Largest", ">Smallest", "Has")
    for row in rows:
        if isinstance(known[row["name"]], IntFormat):
            integers.add_row(row["name"], str(row["lowest"]), str(row["highest"]))
        else:
            others.add_row(
                row["name"],
                str(row["bits"]),
                f"{row['bytes_per_element']:.4g}",
                spelt(row["block"]),
                spelt(row["max"]),
                spelt(row["smallest_subnormal"]),
                " ".join(
                    word
                    for word, fact in (
                        ("inf", "has_inf"),
                        ("NaN", "has_nan"),
                        ("-0", "has_negative_zero"),
                    )
                    if row[fact]
                ),
            )
    say(
        integers,
        "Arguments, as in int8(affine, observer=percentile(99.9)):\n"
        "  affine       scale and zero point; the default of uint formats\n"
        "  symmetric    no zero point; the default of int formats, codes -127..127 in int8\n"
        "  full         the lowest code too, -128 in int8\n"
        "  per_tensor   one scale; the default except for weights\n"
        "  channel=N    one scale for each index of axis N; weights: channel=0\n"
        "  group=N      one scale for each N neighbours along what is summed\n"
        "  dynamic      the range of each batch instead of a calibrated one\n"
        "  po2          the scale rounded up to a power of two\n"
        f"  observer=... the range by {' '.join(OBSERVERS)}\n"
        "  rounding=... how x / scale is rounded: a mode of those below\n",
        others,
        "Largest and smallest are those of an element divided by its block's scale. The NaN of a\n"
        "block is that of its scale: all of the block.\n"
        "Arguments, as in mxfp8_e4m3(block=64, mode=RCEIL, rounding=TowardZero):\n"
        "  rounding=... NearestTiesToEven NearestTiesToAway TowardZero TowardPositive\n"
        "               TowardNegative ToOdd Stochastic(24)\n"
        "  saturation=  SatFinite SatPropagate SatNone (floats)\n"
        "  block=N      how many neighbours share a scale; axis=N: along which axis\n"
        "  mode=...     FLOOR CEIL EVEN RCEIL: how MX scales are chosen\n"
        "IEEE P3109 names such as binary8p4se and the d-Matrix shorthand such as\n"
        "BFP[8|8]{64}(SN) are read as well. 'dovetail show format NAME' draws one format.",
    )


def one_format(
    name: Annotated[str, typer.Argument(help="A format, such as mxfp4.", show_default=False)],
    json: Json = False,
) -> None:
    """One format: its facts, and its values on a number line.

    \b
    Examples:
      dovetail show format mxfp4
      dovetail show format "float(e=4, m=3)" --json
    """
    from dovetail.formats import format as to_format

    fmt = to_format(name)
    facts, values = _facts(str(fmt), fmt), _values(fmt)
    if json:
        say_json(facts | {"values": values})
        return
    shown = table(str(fmt), "Fact", ">Value")
    for key in ("lowest", "highest", *_FACTS):
        if facts[key] is not None:
            shown.add_row(key.replace("_", " "), spelt(facts[key]))
    say(shown)
    if values:
        columns = min(width(), 100)
        lines = ["", *number_line(values, columns)]
        if len(values) <= 64:
            lines += ["", "Values: " + " ".join(f"{v:g}" for v in values if v >= 0)]
        say("\n".join(lines))


def _facts(name: str, fmt: Format) -> dict[str, Any]:
    """What is known of a format; facts of values are those of a block format's elements."""
    from dovetail.formats import BlockFormat, IntFormat
    from dovetail.formats.nan import has_nan

    facts: dict[str, Any] = {"name": name, "lowest": None, "highest": None}
    if isinstance(fmt, IntFormat):
        facts |= {"lowest": fmt.qmin, "highest": fmt.qmax}
    inner = fmt.element if isinstance(fmt, BlockFormat) else fmt
    for key in _FACTS:
        facts[key] = getattr(fmt, key, getattr(inner, key, None))
    if facts["has_nan"] is not None:  # a block has it in its scale
        facts["has_nan"] = has_nan(fmt)
    facts["rounding"] = facts["rounding"] and str(facts["rounding"])
    return facts


def _values(fmt: Format) -> list[float] | None:
    """The values to draw: an element's; of integer formats the codes; None if they are too many."""
    from dovetail.formats import BlockFormat, ElementFormat, IntFormat
    from dovetail.formats.values import values_of

    if isinstance(fmt, IntFormat):
        return [float(code) for code in range(fmt.qmin, fmt.qmax + 1)]
    inner = fmt.element if isinstance(fmt, BlockFormat) else fmt
    return values_of(inner) if isinstance(inner, ElementFormat) and inner.bits <= 12 else None
