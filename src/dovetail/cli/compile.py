"""`dovetail compile`: a model as compiled code, and everything it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dovetail.cli.console import say, say_json
from dovetail.cli.options import Files, Json, Out, Set, Threads, overrides

__all__ = ["compile"]

Show = Annotated[
    bool,
    typer.Option("--show", help="Write the SDFG, its view, the C++ and the nodes to a folder."),
]
Timing = Annotated[
    bool, typer.Option("--timing", help="Run the model and time each map; seconds of each pass.")
]
Backward = Annotated[bool, typer.Option("--backward", help="Compile gradients, too.")]
Target = Annotated[
    str, typer.Option(metavar="TARGET", help="cpu, or cuda: without a GPU nothing is run.")
]
Level = Annotated[
    str, typer.Option(metavar="LEVEL", help="Rows of the table: operator, map or scalar.")
]


def compile(
    files: Files,
    set_: Set = None,
    threads: Threads = None,
    show: Show = False,
    out: Out = None,
    backward: Backward = False,
    timing: Timing = False,
    target: Target = "cpu",
    level: Level = "map",
    json: Json = False,
) -> None:
    """Compile an experiment's model and list its nodes.

    What is compiled is compared with the emulated model before anything is printed, where it can
    run, unless an earlier call has compared the same.

    \b
    Examples:
      dovetail compile examples/digits.yaml
      dovetail compile examples/digits.yaml --show --out out/compiled
      dovetail compile examples/digits.yaml --timing
      dovetail compile examples/digits.yaml --target cuda --show
    """
    from dovetail.compiler.entry import compile as compile_
    from dovetail.compiler.nodes.base import TARGETS
    from dovetail.compiler.report import LEVELS
    from dovetail.emulation import apply_
    from dovetail.errors import unknown
    from dovetail.experiment.progress import Steps
    from dovetail.experiment.subject import subject
    from dovetail.recipe.schema import load

    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    if level not in LEVELS:
        raise unknown("level", level, LEVELS)
    experiment, steps = load(files, overrides(set_, threads)), Steps(show=not json)
    with steps.step("reading model and data"):
        work = subject(experiment)
    if len(experiment.recipe):
        apply_(work.model, experiment.recipe, work.example)
    model, example = _moved(work.model.eval(), work.example, target)
    with steps.step("compiling"):
        compiled = compile_(model, example, target=target, backward=backward)
    report = compiled.report(timing=timing)
    written = _written(compiled, report, out or Path(f"{work.name}-compiled")) if show else []
    if json:
        say_json({**report.to_dict(), "files": [str(path) for path in written]})
        return
    say(report.table(level))
    if timing:
        say(f"\n{report.passes()}")
    for path in written:
        say(f"wrote {path}")


def _moved(model: Any, example: Any, target: str) -> tuple[Any, Any]:
    """Both on the GPU, if they are to run there and there is one."""
    from torch import Tensor
    from torch.utils import _pytree as pytree

    from dovetail.compiler.build.gpu import gpu

    if target == "cpu" or gpu().missing() is not None:
        return model, example
    return model.cuda(), pytree.tree_map_only(Tensor, lambda x: x.cuda(), example)


def _written(compiled: Any, report: Any, folder: Path) -> list[Path]:
    from json import dumps

    from dovetail.compiler.view import html

    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for unit in compiled.units:
        texts = {
            "sdfg": dumps(unit.sdfg.to_json()),
            "html": html(unit),
            "cpp": unit.source.code,
            "cu": unit.source.kernels,
            "groups.txt": f"{unit.program}\n",
        }
        for suffix, text in texts.items():
            if not text:
                continue
            found.append(folder / f"{unit.name}.{suffix}")
            found[-1].write_text(text, encoding="utf-8")
    found.append(folder / "nodes.txt")
    levels = [f"{level}\n{report.table(level)}\n" for level in ("operator", "map", "scalar")]
    found[-1].write_text("\n".join(levels), encoding="utf-8")
    return found
