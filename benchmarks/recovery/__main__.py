"""``python -m benchmarks.recovery``: measure what the journal lacks, then write the table.

It may be interrupted, or told to stop after some minutes, and run again: what is measured stays.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.progress import Progress

from benchmarks.recovery.cases import METHODS, arithmetics, asked, measured
from benchmarks.recovery.journal import Journal, Key
from benchmarks.recovery.networks import NETWORKS
from benchmarks.recovery.table import markdown
from benchmarks.report import RESULTS

QUICK = {"arithmetics": ["mul8s_1L2N", "int4"], "methods": ["before", "fit ste"], "seeds": [0]}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    journal = Journal(options.work / ("quick.csv" if options.quick else "journal.csv"))
    todo = [key for key in _keys(options) if key not in journal.rows]
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=len(todo))
        for key in todo:
            if time.monotonic() > end:
                break
            progress.update(task, description=", ".join(map(str, key)))
            journal.add(key, _measure(key, options))
            progress.advance(task)
    page = markdown(journal)
    print(page)
    if not options.quick:
        (RESULTS / "recovery.md").write_text(page, encoding="utf-8")
    missing = sum(key not in journal.rows for key in _keys(options))
    if missing:
        print(f"{missing} of {len(list(_keys(options)))} are still to be measured: run it again")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a small run of everything, no table kept"
    )
    parser.add_argument("--minutes", type=float, help="begin nothing new after so long")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--arithmetics", nargs="+", help="of each network all that it has")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("out/recovery"), help="journal, weights")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    return options


def _keys(options: argparse.Namespace) -> Iterator[Key]:
    """Every measurement: all networks, seeds and arithmetics by one method, then by the next."""
    for method in ("exact", *options.methods):
        for network, seed in itertools.product(options.networks, options.seeds):
            if method == "exact":
                yield network, "exact", "before", seed
                continue
            for arithmetic in options.arithmetics or arithmetics(network):
                if asked(arithmetic, method):
                    yield network, arithmetic, method, seed


def _measure(key: Key, options: argparse.Namespace) -> float | str:
    name, arithmetic, method, seed = key
    network = NETWORKS[name]
    model = network.trained(seed, options.work, quick=options.quick)
    data = network.data(options.quick)
    if arithmetic == "exact":
        return network.measure(model, data.test)
    return measured(network, model, data, arithmetic, method, seed)


if __name__ == "__main__":
    main()
