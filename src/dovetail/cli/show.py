"""`dovetail show`: what can be written in an experiment file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dovetail.cli import show_formats, show_methods
from dovetail.cli.console import say, say_json, spelt, table, width
from dovetail.cli.options import Json

__all__ = ["app"]

app = typer.Typer(help="What an experiment file can say.", no_args_is_help=True)
show_methods.add_to(app)
show_formats.add_to(app)


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
                shown.add_row(f"{key.replace('_', ' ')} {part}", spelt(amount))
        elif key != "name":
            shown.add_row(key.replace("_", " "), spelt(fact))
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
