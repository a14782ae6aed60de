"""The journal as Markdown: a table for each network, means of the seeds with their intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch

from benchmarks.recovery.cases import FORMATS, METHODS, arithmetics
from benchmarks.recovery.journal import Journal
from benchmarks.recovery.networks import NETWORKS, Network

#: Student's t at 97.5 % for so many values less one.
T975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def interval(values: Sequence[float]) -> str:
    """Mean and half width of the 95 % interval of the mean, by Student's t.

    >>> interval([97.0, 98.0, 99.0])
    '98.0 ± 2.5'
    >>> interval([1.25]), interval([])
    ('1.25', '')
    """
    if not values:
        return ""
    mean = statistics.fmean(values)
    digits = 2 if abs(mean) < 10 else 1
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    half = T975[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def markdown(journal: Journal) -> str:
    """The whole page."""
    seeds = {key[3] for key in journal.rows}
    lines = [
        "# Accuracy won back",
        "",
        f"Networks under damaging arithmetic, before and after each way of mending; torch "
        f"{torch.__version__}. Means of {len(seeds)} seeds (of training, retraining and its data "
        "order) with the 95 % interval of the mean (Student's t). Multipliers are the whole "
        "network's, on int8 operands; formats are those of inputs and weights, with exact "
        "products. Recipes see 256 samples of the training data; `fit` retrains under emulation, "
        "for every gradient alike.",
    ]
    refusals = journal.refusals()
    for title, network in NETWORKS.items():
        if any(key[0] == title for key in journal.rows):
            lines += _table(journal, title, network)
            lines += [
                f"- `{method}`: {text}" for (of, method), text in refusals.items() if of == title
            ]
    return "\n".join(lines) + "\n"


def _table(journal: Journal, title: str, network: Network) -> list[str]:
    exact = interval(journal.values(title, "exact", "before"))
    present = {key[2] for key in journal.rows if key[0] == title}
    methods = [m for m in (*METHODS, *sorted(present - set(METHODS))) if m in present]
    better = "less is better" if network.unit.startswith("bits") else "more is better"
    plan = ", ".join(f"{key} {value:g}" for key, value in network.retrain.items())
    head = ["arithmetic", *methods]
    lines = [
        "",
        f"## {title}: {network.unit} ({better})",
        "",
        f"Exact: {exact}. Retraining: {plan}.",
        "",
    ]
    lines += [_row(head), "|" + "---|" * len(head)]
    for arithmetic in arithmetics():
        cells = [interval(journal.values(title, arithmetic, m)) for m in methods]
        if any(cells):
            name = arithmetic if arithmetic in FORMATS else f"`{arithmetic}`"
            lines.append(_row([name, *(cell or "–" for cell in cells)]))
    return [*lines, ""]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
