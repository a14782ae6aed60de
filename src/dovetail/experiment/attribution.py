"""The attribution of an experiment: what `dovetail attribute` does, without the printing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from dovetail._threads import computing_with
from dovetail.analysis import Attribution
from dovetail.analysis import attribute as attribute_model
from dovetail.experiment.progress import Steps
from dovetail.experiment.recover import before_emulation, recover
from dovetail.experiment.run import emulated, resolve
from dovetail.experiment.subject import subject
from dovetail.experiment.unfinished import telling, unfinished
from dovetail.recipe.schema import load

__all__ = ["attribute"]


def attribute(
    path: str | Path | Sequence[str | Path],
    *,
    overrides: Iterable[str] = (),
    mode: str = "exact",
    metric: str | None = None,
    select: str | Sequence[str] = "*",
    sources: Sequence[str] | None = None,
    batches: int | None = None,
    resamples: int = 1000,
    disable: bool = True,
    out: str | Path | None = None,
    progress: bool = False,
) -> tuple[Attribution, Path]:
    """Attribute the recipe of an experiment file, calibrated and recovered but not retrained.

    It is measured on the test data, the first `batches` of it if given, with the file's seed.
    The path is where the file's report stands, or `out`. A file there keeps what is measured until
    it is done: what is interrupted goes on when the same is asked for again. Everything else is as
    for :func:`dovetail.attribute` and :func:`dovetail.experiment.run`.

    >>> attribute("no-such-file.yaml")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: no file 'no-such-file.yaml'
    """
    file = resolve(load([path] if isinstance(path, (str, Path)) else list(path), overrides), out)
    steps = Steps(show=progress)
    with computing_with(file.spec.threads), torch.random.fork_rng(devices=[]):
        with steps.step("reading model and data"):
            work = subject(file)
        before_emulation(file, work, steps)
        torch.manual_seed(file.spec.seed)
        model, _ = emulated(file, file.recipe, work, steps)
        recover(file, model, work, steps)
        test = list(itertools.islice(work.test, batches))
        passing = unfinished(file, work, mode, metric, select, sources, batches, disable)
        passing.parent.mkdir(parents=True, exist_ok=True)
        with steps.counted("attributing") as tell, telling(passing, "measured"):
            found = attribute_model(
                model,
                test,
                metric,
                checkpoint=passing if mode == "exact" else None,
                mode=mode,
                select=select,
                sources=sources,
                resamples=resamples,
                disable=disable,
                seed=file.spec.seed,
                progress=tell,
            )
    passing.unlink(missing_ok=True)
    return found, Path(str(file.spec.report))
