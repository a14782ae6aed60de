"""`dovetail show`: what can be written in an experiment file."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dovetail.cli.console import NONE, say, say_json, table, width
from dovetail.cli.number_line import number_line
from dovetail.cli.options import Json
from dovetail.cli.show_methods import add_to
from dovetail.errors import DovetailError

if TYPE_CHECKING:
    from dovetail.formats import Format

__all__ = ["app"]

app = typer.Typer(help="What an experiment file can say.", no_args_is_help=True)
add_to(app)

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


@app.command()
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
                _shown(row["block"]),
                _shown(row["max"]),
                _shown(row["smallest_subnormal"]),
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


@app.command("format")
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
            shown.add_row(key.replace("_", " "), _shown(facts[key]))
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


def _shown(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@app.command()
def sparsity(
    name: Annotated[
        str, typer.Argument(help="A sparsity, such as 2:4 or topk(0.3).", show_default=False)
    ],
    rows: Annotated[int, typer.Option(min=1, help="Outputs of the weight.")] = 32,
    columns: Annotated[int, typer.Option(min=1, help="Inputs of the weight.")] = 64,
    png: Annotated[Path | None, typer.Option(help="Write a picture to this file.")] = None,
    json: Json = False,
) -> None:
    """One sparsity: its mask of a random weight, and figures.

    \b
    Examples:
      dovetail show sparsity 2:4
      dovetail show sparsity "blocks(16, 4, 0.25)" --png mask.png
    """
    import torch

    from dovetail.sparsity import draw, save_png, statistics
    from dovetail.sparsity import sparsity as to_sparsity

    value = to_sparsity(name)
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    value.pattern.check(weight.shape)
    mask = value.pattern.mask(weight.abs())
    facts = {"name": str(value), **statistics(mask).to_dict()}
    if png is not None:
        save_png(mask, png)
    if json:
        say_json(facts)
        return
    shown = table(f"{value} on a random weight {rows} x {columns}", "Fact", ">Value")
    for key, fact in facts.items():
        if isinstance(fact, dict):
            for part, amount in fact.items():
                shown.add_row(f"{key.replace('_', ' ')} {part}", _shown(amount))
        elif key != "name":
            shown.add_row(key.replace("_", " "), _shown(fact))
    say(shown, "\n" + draw(mask, min(width(), 100)))


@app.command()
def sparsities(json: Json = False) -> None:
    """Sparsities, scores and backward modes, for rules.

    \b
    Example:
      dovetail show sparsities
    """
    from dovetail.sparsity import pattern_names, score_names
    from dovetail.sparsity.value import BACKWARD

    known = {"patterns": pattern_names(), "scores": score_names(), "backward": list(BACKWARD)}
    if json:
        say_json(known)
        return
    say(
        *(f"{key}: {', '.join(names)}" for key, names in known.items()),
        "\nAs in sparsity: 2:4, 1:4(axis=0), topk(0.3, per_output), blocks(16, 4, 0.25),\n"
        "bernoulli(0.5, seed=1), 2:4(fixed, score=wanda),\n"
        "topk(0.1, score=learned, backward=joint), or the d-Matrix\n"
        "shorthand: TOPK{0.5}(U), BTOPK{4:8,-1}(U), BERN, DENSE.\n"
        "'dovetail show sparsity NAME' draws one.",
    )


@app.command()
def ops(json: Json = False) -> None:
    """Kinds of operation, for op= in a rule, and their fields.

    \b
    Example:
      dovetail show ops
    """
    from dovetail.kinds import KINDS

    if json:
        say_json([asdict(kind) for kind in KINDS.values()])
        return
    shown = table("Operations", "Kind", "Group", "Fields", "What it is")
    for kind in KINDS.values():
        shown.add_row(kind.name, kind.group, " ".join(kind.fields), kind.summary)
    say(
        shown,
        "op= in a rule takes kinds, groups, or * for every kind; a rule without it speaks of the\n"
        "group 'product'. A kind passes over the fields that it has not.",
    )


@app.command()
def functions(json: Json = False) -> None:
    """Approximated functions, for fn= in a rule.

    \b
    Example:
      dovetail show functions
    """
    from dovetail.approximations import approximation, approximations_known

    rows: list[dict[str, Any]] = []
    for name, signature in approximations_known().items():
        made = approximation(_EXAMPLES.get(name, name))
        words = {"name": name, "call": signature, "what": made.summary}
        rows.append(words | {"kinds": list(made.kinds)})
    if json:
        say_json(rows)
        return
    shown = table("Approximations", "Call", "Computes", "What it is")
    for row in rows:
        if row["name"][:-1] != "poly" or row["name"] == "poly2":
            shown.add_row(row["call"], " ".join(row["kinds"]), row["what"])
    say(
        shown,
        "Given to softmax, one of exp computes its exponentials; given to layer_norm or rms_norm,\n"
        "one of rsqrt the reciprocal root. poly1 to poly8 differ in the degree alone.",
    )


@app.command()
def families(json: Json = False) -> None:
    """Families of multipliers, for mul= in a rule; their papers.

    \b
    Example:
      dovetail show families
    """
    from dovetail.multipliers import families as known

    rows = [asdict(family) for family in known().values()]
    if json:
        say_json(rows)
        return
    shown = table("Families of multipliers", "Parameters and defaults", "What it is, and its paper")
    for row in rows:
        shown.add_row(row["spelling"], f"{row['summary']}\n{row['paper']}".strip())
    say(
        shown,
        "Signed operands unless signed=False; bits=8 or bits=(8, 4) for (input, weight). With\n"
        "format=bf16 and the like a family multiplies the significands of floating-point numbers.\n"
        "'dovetail multiplier show NAME' tells what one computes, 'dovetail multiplier list' the\n"
        "circuits' names.",
    )


#: What cannot stand alone.
_EXAMPLES = {"pwl": "pwl(16)", "table": "table(256)"}


@app.command()
def schema() -> None:
    """The JSON schema of the experiment file, for editors.

    \b
    Example:
      dovetail show schema > dovetail.schema.json
    """
    from dovetail.recipe.experiment import Experiment

    say_json(Experiment.model_json_schema())
