"""`dovetail cost`: what the operations of an experiment cost, by declared tables."""

from __future__ import annotations

from typing import Annotated

import typer

from dovetail.cli.completion import cost_tables
from dovetail.cli.console import say, say_json, width
from dovetail.cli.options import Files, Json, Set, overrides

__all__ = ["cost"]

Tables = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        metavar="NAME",
        help="A built-in table (horowitz2014, jouppi2021) or a YAML file. Repeatable; the first "
        "that knows a figure wins. Else `cost.tables` of the file.",
        show_default=False,
        autocompletion=cost_tables,
    ),
]
Node = Annotated[
    float | None,
    typer.Option(metavar="NM", help="The built-in table of this node.", show_default=False),
]


def cost(
    files: Files, set_: Set = None, table: Tables = None, node: Node = None, json: Json = False
) -> None:
    """What operations cost: products, bytes, energy, area, delay.

    On one batch, by declared tables; nothing is run.

    \b
    Examples:
      dovetail cost examples/digits.yaml
      dovetail cost examples/digits.yaml --table mine.yaml --table horowitz2014
    """
    from dovetail.costs import cost as cost_of
    from dovetail.emulation import plan as plan_for
    from dovetail.experiment.progress import Steps
    from dovetail.experiment.subject import subject
    from dovetail.recipe.schema import load

    experiment, steps = load(files, overrides(set_)), Steps(show=not json)
    declared = experiment.spec.cost
    with steps.step("reading model and data"):
        work = subject(experiment, from_scratch=True)
    with steps.step("planning"):
        resolved = plan_for(work.model, experiment.recipe, work.example)
    found = cost_of(
        resolved,
        tables=table or list(declared.tables) or None,
        node=declared.node if node is None and not table else node,
    )
    if json:
        say_json(found.to_dict())
        return
    batch = "x".join(map(str, work.example[0].shape))
    say(f"{work.name} on a batch of {batch}\n", found.table(width()).rstrip())
