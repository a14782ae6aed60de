"""`dovetail plan`: who would get what, and from which rule; nothing is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dovetail.cli.console import say, say_json, width
from dovetail.cli.options import Files, Json, Set, overrides

__all__ = ["plan"]


Tree = Annotated[bool, typer.Option("--tree", help="Draw the modules as a tree instead.")]

Graph = Annotated[
    Path | None,
    typer.Option("--graph", help="Write the graph of operations: FILE.mmd Mermaid, FILE.dot."),
]


def plan(
    files: Files, set_: Set = None, tree: Tree = False, graph: Graph = None, json: Json = False
) -> None:
    """Show who gets what, and from which rule. Nothing is measured.

    \b
    Examples:
      dovetail plan examples/digits.yaml
      dovetail plan examples/digits.yaml --tree
      dovetail plan examples/digits.yaml --set "rules.1.match=conv1" --json
      dovetail plan examples/digits.yaml --graph digits.mmd
    """
    from dovetail.emulation import plan as plan_for
    from dovetail.experiment.progress import Steps
    from dovetail.experiment.subject import subject
    from dovetail.recipe.schema import load

    experiment, steps = load(files, overrides(set_)), Steps(show=not json)
    with steps.step("reading model and data"):
        work = subject(experiment, from_scratch=True)
    with steps.step("planning"):
        resolved = plan_for(work.model, experiment.recipe, work.example)
    if graph is not None:
        _draw(graph, work.model, experiment.recipe, work.example)
    if json:
        say_json(resolved.to_dict())
        return
    say(f"{work.name} under the {len(experiment.recipe)} rules of {experiment.document.name}\n")
    if tree:
        from dovetail.analysis import tree as drawn

        say(drawn(work.model, resolved, width()))
    else:
        say(resolved.table(width()).rstrip())


def _draw(path: Path, model: Any, recipe: Any, example: Any) -> None:
    from dovetail._files import target, write
    from dovetail.analysis import graph
    from dovetail.errors import unknown

    if path.suffix not in (".mmd", ".dot"):
        raise unknown("kind of graph", path.suffix, (".mmd", ".dot"))
    place = target(path)
    drawn = graph(model, recipe, example)
    text = drawn.mermaid() if path.suffix == ".mmd" else drawn.dot()
    write({place: text})
