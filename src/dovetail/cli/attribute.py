"""`dovetail attribute`: which operation, and which source of error in it, costs what."""

from __future__ import annotations

from typing import Annotated

import typer

from dovetail.cli.console import say, say_json, width
from dovetail.cli.options import Files, Json, Out, Set, Threads, overrides

__all__ = ["attribute"]

_FILE = "attribution.json"

Mode = Annotated[
    str,
    typer.Option(
        metavar="MODE",
        help="exact: one pass for each source, from the operation on that it changes. first_order: "
        "one pass with gradients, which predicts the change of the loss.",
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="accuracy, loss or perplexity; else perplexity where every token has a class, "
        "accuracy otherwise.",
        show_default=False,
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Only operations that the pattern matches, as rules have it: 'layer4.*', "
        "'*:softmax'. Repeatable.",
        show_default=False,
    ),
]
Source = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Only this source: sparsity, input, weight, bias, mul, acc, fn or output. Repeatable.",
        show_default=False,
    ),
]
Batches = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Only so many test batches.", show_default=False),
]
Resamples = Annotated[
    int, typer.Option(metavar="N", min=0, help="Bootstrap resamples; 0: no intervals.")
]
Sort = Annotated[
    str,
    typer.Option(metavar="FIELD", help="Order of the table: calls, harm, or a field of the rows."),
]
Enabled = Annotated[
    bool, typer.Option("--enabled-only", help="Do not make each source exact alone as well.")
]


def attribute(
    files: Files,
    set_: Set = None,
    mode: Mode = "exact",
    metric: Metric = None,
    select: Select = None,
    source: Source = None,
    batches: Batches = None,
    resamples: Resamples = 1000,
    sort: Sort = "calls",
    enabled_only: Enabled = False,
    out: Out = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Measure what every source of error of every operation costs.

    Sources are the casts of input, weight, bias and output, the sparsity, the multiplier, the
    accumulator and the approximated function. Each is enabled alone, everything else exact, and
    made exact alone, everything else emulated. Writes attribution.json to the report's folder.
    What is interrupted goes on where it was when the same command is given again.

    \b
    Examples:
      dovetail attribute examples/digits.yaml --sort harm
      dovetail attribute examples/digits.yaml --select 'conv*' --source mul
      dovetail attribute examples/digits.yaml --mode first_order --batches 2
    """
    from dovetail.analysis.attribution.result import check_order
    from dovetail.analysis.attribution.scores import check_name
    from dovetail.experiment import attribute as attribute_experiment

    check_name(metric)
    if sort != "calls":
        check_order(sort)
    found, folder = attribute_experiment(
        files,
        overrides=overrides(set_, threads),
        mode=mode,
        metric=metric,
        select=select or "*",
        sources=source,
        batches=batches,
        resamples=resamples,
        disable=not enabled_only,
        out=out,
        progress=not json,
    )
    shown = found if sort == "calls" else found.sorted(sort)
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / _FILE)
    if json:
        say_json(shown.to_dict())
        return
    say(shown.table(width()).rstrip())
    say(f"\n{folder / _FILE}: 'dovetail report {folder}' draws it")
