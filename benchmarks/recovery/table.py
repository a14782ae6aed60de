"""The journal as Markdown: a table for each network, means of the seeds with their intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch

from benchmarks.recovery.cases import AFTER, FITS, FORMATS, LEARNED, METHODS, arithmetics, asked
from benchmarks.recovery.journal import Journal
from benchmarks.recovery.networks import NETWORKS, Network

#: Student's t at 97.5 % for so many values less one.
T975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def interval(values: Sequence[float], *, signed: bool = False) -> str:
    """Mean and half width of the 95 % interval of the mean, by Student's t.

    >>> interval([97.0, 98.0, 99.0])
    '98.0 ± 2.5'
    >>> interval([1.25]), interval([])
    ('1.25', '')
    >>> interval([0.5, 0.7], signed=True)
    '+0.60 ± 1.27'
    """
    if not values:
        return ""
    mean = statistics.fmean(values)
    digits = 2 if abs(mean) < 10 else 1
    middle = f"{mean:{'+' if signed else ''}.{digits}f}"
    if len(values) == 1:
        return middle
    half = T975[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{middle} ± {half:.{digits}f}"


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
        "products; of functions, the products are int8. Recipes see the calibration data, the "
        "ranges are those of the exact network on it; `fit` retrains under emulation, for every "
        "gradient alike. Differences are between runs of the same seed. A number in brackets is "
        "that of the seeds, where some are missing.",
    ]
    refusals = journal.refusals()
    for title, network in NETWORKS.items():
        if any(key[0] == title for key in journal.rows):
            lines += _tables(journal, title, network)
            lines.append("")
            lines += [
                f"- `{method}`: {text}" for (of, method), text in refusals.items() if of == title
            ]
    return "\n".join(lines) + "\n"


def _tables(journal: Journal, title: str, network: Network) -> list[str]:
    """What recipes win, what retraining wins, and by how much gradients differ."""
    exact = interval([*journal.by_seed(title, "exact", "before").values()])
    better = "less is better" if network.unit.startswith("bits") else "more is better"
    plan = ", ".join(f"{key} {value:g}" for key, value in network.retrain.items())
    fits = (*FITS, LEARNED, *AFTER)
    recipes = [method for method in METHODS if method not in ("before", *fits)]
    return [
        "",
        f"## {title}: {network.unit} ({better})",
        "",
        f"Exact: {exact}. Retraining: {plan}.",
        *_table(journal, title, "after a recipe", ["before", *recipes]),
        *_table(journal, title, "after retraining", ["before", *fits]),
        *_differences(journal, title),
        *_missing(journal, title),
    ]


def _table(journal: Journal, title: str, caption: str, methods: Sequence[str]) -> list[str]:
    present = {key[2] for key in journal.rows if key[0] == title}
    methods = [method for method in methods if method in present]
    lines = [_row([caption, *methods]), "|" + "---|" * (len(methods) + 1)]
    for arithmetic in arithmetics(title):
        cells = [_cell(journal, title, arithmetic, method) for method in methods]
        if any(cells):
            lines.append(_row([_named(arithmetic), *(cell or "–" for cell in cells)]))
    return ["", *lines]


def _differences(journal: Journal, title: str) -> list[str]:
    """Each gradient against ``ste``, seed by seed: the mean difference with its interval."""
    pairs = [(fit, FITS[0]) for fit in FITS[1:]] + [(fit, AFTER[0]) for fit in AFTER[1:]]
    found = {key[2] for key in journal.rows if key[0] == title}
    pairs = [pair for pair in pairs if found.issuperset(pair)]
    if not pairs:
        return []
    lines = [_row(["minus `ste`", *(fit for fit, _ in pairs)]), "|" + "---|" * (len(pairs) + 1)]
    for arithmetic in arithmetics(title):
        cells = []
        for pair in pairs:
            fit, ste = (journal.by_seed(title, arithmetic, method) for method in pair)
            shared = [fit[seed] - ste[seed] for seed in fit if seed in ste]
            cells.append(interval(shared, signed=True) + _few(journal, len(shared)))
        if any(cells):
            lines.append(_row([_named(arithmetic), *(cell or "–" for cell in cells)]))
    return ["", *lines]


def _cell(journal: Journal, title: str, arithmetic: str, method: str) -> str:
    found = journal.by_seed(title, arithmetic, method)
    return interval([*found.values()]) + _few(journal, len(found))


def _few(journal: Journal, count: int) -> str:
    """Of a cell of fewer seeds than there are: how many."""
    return f" ({count})" if 0 < count < len({key[3] for key in journal.rows}) else ""


def _missing(journal: Journal, title: str) -> list[str]:
    """What is still to be measured, by method."""
    seeds = {key[3] for key in journal.rows}
    lacking = {
        method: sum(
            (title, arithmetic, method, seed) not in journal.rows
            for arithmetic in arithmetics(title)
            for seed in seeds
            if asked(arithmetic, method)
        )
        for method in METHODS
    }
    words = [f"`{method}` {count}" for method, count in lacking.items() if count]
    return ["", f"Not measured (runs): {', '.join(words)}."] if words else []


def _named(arithmetic: str) -> str:
    return arithmetic if arithmetic in FORMATS else f"`{arithmetic}`"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
