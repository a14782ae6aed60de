"""`dovetail multiplier design`: a circuit for the operands that there are, at a given size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dovetail.cli.console import percent, ratio, say, say_json, table
from dovetail.cli.multiplier.files import stored
from dovetail.cli.multiplier.options import Layer, Operands, errors_under, operands_of, widths
from dovetail.cli.options import Json

if TYPE_CHECKING:
    from dovetail.analysis.operands import OperandCounts
    from dovetail.multipliers import Multiplier

__all__ = ["design"]

Cost = Annotated[
    float, typer.Option(metavar="SHARE", help="Of the exact array's unit gates, 0 to 1.")
]
Objective = Annotated[str, typer.Option(help="mse (mean square) or med (mean absolute error).")]
Depth = Annotated[
    float, typer.Option(help="With mse: of sums of so many products; above 1 the bias weighs more.")
]
Constant = Annotated[
    bool, typer.Option("--constant", help="Add a number that makes up for what is left out.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Write NAME.v, NAME.c, the table NAME.hex and the test bench NAME_tb.v there.",
        show_default=False,
    ),
]


def design(
    cost: Cost = 0.5,
    bits: Annotated[str, typer.Option(help="The operands' width, or input,weight.")] = "8",
    signed: Annotated[bool, typer.Option("--signed/--unsigned", help="Of the operands.")] = True,
    operands: Operands = None,
    layer: Layer = "*",
    objective: Objective = "mse",
    depth: Depth = 1,
    constant: Constant = False,
    restarts: Annotated[int, typer.Option(min=0, help="Walks of the search.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the search.")] = 0,
    out: Out = None,
    name: Annotated[str, typer.Option(help="Of the module and the function.")] = "designed",
    json: Json = False,
) -> None:
    """Search the array of least error at a given size: a new circuit.

    With --operands, the least error under the operands that layers really multiply. What is
    written is read back and compared over all operand pairs.

    \b
    Examples:
      dovetail multiplier design --cost 0.42 --constant --operands out/digits
      dovetail multiplier design --bits 4 --unsigned --out . --name mul4
    """
    from dovetail._files import target
    from dovetail.multipliers import design as search

    if out is not None and not out.is_dir():
        target(out)
    counts = operands_of(operands, layer)
    width: Any = widths(bits)
    if counts is not None:
        width, signed = counts.mul._width(), counts.mul.signed
    m = search(
        cost,
        bits=width,
        signed=signed,
        operands=None if counts is None else counts.joint,
        objective=objective,
        depth=depth,
        constant=constant,
        restarts=restarts,
        seed=seed,
    )
    beside = [_facts(one, counts) for one in (m, *_uniform(m, counts))]
    files = [] if out is None else _written(m, out, name)
    if json:
        say_json({"design": beside[0], "uniform": beside[1:], "files": files})
        return
    shown = table(
        f"{m!r}",
        "Array",
        ">Unit gates",
        ">Of exact",
        ">Energy",
        ">RMS error",
        ">Bias",
        ">Wrong",
        caption="Errors over "
        + ("all operand pairs." if counts is None else f"the products of {operands} ({layer}).")
        + " Below: the best uniform arrays that are no larger.",
    )
    for place, row in enumerate(beside):
        shown.add_row(
            "this design" if place == 0 else row["name"],
            str(row["unit_gates"]),
            percent(row["share"]),
            ratio(row["relative_energy"]),
            f"{row['rms']:.4g}",
            f"{row['bias']:+.4g}",
            percent(row["ep"]),
        )
    say(shown)
    for line in files:
        say(line)


def _facts(m: Multiplier, counts: OperandCounts | None) -> dict[str, Any]:
    from dovetail.multipliers import multiplier, relative_energy
    from dovetail.multipliers.circuits.unit_gates import unit_gates

    errors = m.errors()
    under = (
        {**errors.to_dict(), "rms": (errors.variance + errors.bias**2) ** 0.5}
        if counts is None
        else errors_under(m, counts)
    )
    assert m.circuit is not None
    whole = multiplier("exact", bits=m.bits, signed=m.signed).circuit
    assert whole is not None
    own, full = unit_gates(m.circuit).area, unit_gates(whole).area
    return {
        "name": repr(m),
        "unit_gates": own,
        "share": own / full,
        "relative_energy": relative_energy(m),
        **under,
    }


def _uniform(m: Multiplier, counts: OperandCounts | None) -> list[Multiplier]:
    """The best broken and the best truncated array that take no more gates."""
    from dovetail.multipliers import multiplier

    assert m.bits is not None
    most = _facts(m, counts)["unit_gates"]
    broken = (
        multiplier("broken_array", bits=m.bits, signed=m.signed, drop_columns=c)
        for c in range(sum(m.bits))
    )
    cut = (
        multiplier("truncate", bits=m.bits, signed=m.signed, drop_first=a, drop_second=b)
        for a in range(m.bits[0] + 1)
        for b in range(m.bits[1] + 1)
    )
    best = []
    for family in (broken, cut):
        known = [(_facts(one, counts), one) for one in family]
        fitting = [(facts["rms"], one) for facts, one in known if facts["unit_gates"] <= most]
        if fitting:
            best.append(min(fitting, key=lambda pair: pair[0])[1])
    return best


def _written(m: Multiplier, folder: Path, name: str) -> list[str]:
    """Everything that is written, each file read back and compared with the design."""
    from dovetail.multipliers import multiplier
    from dovetail.multipliers.circuits.verilog import testbench

    folder.mkdir(exist_ok=True)
    assert m.circuit is not None
    lines = [
        f"{folder / name}{suffix}: read back and equal on every pair: "
        f"{stored(m, folder / f'{name}{suffix}', name)}"
        for suffix in (".v", ".c")
    ]
    words = (m._products.ravel() & (1 << sum(m.circuit.bits)) - 1).tolist()
    digits = (sum(m.circuit.bits) + 3) // 4
    table_file = folder / f"{name}.hex"
    table_file.write_text("".join(f"{word:0{digits}x}\n" for word in words), encoding="utf-8")
    multiplier(table_file, check=m)
    bench = folder / f"{name}_tb.v"
    bench.write_text(testbench(m.circuit, name, f"{name}.hex"), encoding="utf-8")
    return [*lines, f"{table_file}: every product, read back; {bench}: compares them in simulation"]
