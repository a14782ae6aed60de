"""The search that an experiment file asks for: what `dovetail search` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dovetail.emulation.trace import trace
from dovetail.errors import DovetailError
from dovetail.experiment.progress import Steps
from dovetail.experiment.recover import before_emulation, recover
from dovetail.experiment.retrain import check_options, retrain
from dovetail.experiment.run import resolve
from dovetail.experiment.subject import Subject, subject
from dovetail.recipe.document import at
from dovetail.recipe.schema import ExperimentFile, dump, load
from dovetail.recipe.sections.recover import BEFORE_EMULATION
from dovetail.recipe.sections.rules import RuleSpec
from dovetail.recipe.sections.search import SearchSpec
from dovetail.search import Front, Objectives, Space, Trial, found_by
from dovetail.search.evaluator import Calibrating, Evaluator
from dovetail.search.grid import Grid
from dovetail.search.measures import COSTS, Costs, OnData
from dovetail.search.task import Conduct

__all__ = ["FileTask", "search"]


def search(
    path: str | Path | Sequence[str | Path],
    *,
    overrides: Iterable[str] = (),
    out: str | Path | None = None,
    workers: int = 1,
    executor: str = "processes",
    progress: bool = False,
) -> Front:
    """Search as an experiment file says: what `dovetail search` does, without the printing.

    Every trial's figures are those of the last stage of `dovetail run` on its recipe. `out`, or
    else `report` in the file, is the folder for `pareto.csv`, `pareto.svg`, `study.journal` and
    `recipes`, each of which `dovetail run` repeats to the same numbers. A search that was stopped
    goes on where it stopped.

    >>> search("no-such-file.yaml")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: no file 'no-such-file.yaml'
    """
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    overrides = list(overrides)
    given = load(paths, overrides)
    file = resolve(given, out)
    wanted = _wanted(file)
    threads = given.spec.threads or max(1, torch.get_num_threads() // workers)
    folder = Path(str(file.spec.report))
    conduct = Conduct(
        folder, wanted.strategy, wanted.trials, file.spec.seed, wanted.surrogate, threads
    )
    return found_by(
        FileTask(tuple(map(str, paths)), tuple(overrides)),
        conduct,
        lambda grid, trial: _experiment(file, grid, trial, folder),
        workers=workers,
        executor=executor,
        progress=progress,
    )


@dataclass(frozen=True)
class FileTask:
    """Experiment files and what is changed in them: every worker reads them for itself."""

    paths: tuple[str, ...]
    overrides: tuple[str, ...]

    def prepare(self) -> Evaluator:
        """The model and the data read, the space checked."""
        file = resolve(load(self.paths, self.overrides))
        wanted = _wanted(file)
        work = subject(file)
        check_options(work, file)
        before_emulation(file, work, Steps(show=False))
        data = getattr(work, wanted.evaluate)
        if data is None:
            raise DovetailError(
                f"{file.where('search', 'evaluate')}: the data has no '{wanted.evaluate}'; "
                "give a loader of that name, or evaluate on test"
            )
        figures = OnData(data, file.spec.seed)
        for key in ("objectives", "constraints"):
            with at(file.where("search", key)):
                figures.check(getattr(wanted, key))
        with at(file.where("search")):
            objectives = Objectives(wanted.objectives, wanted.constraints)
            space = Space(wanted.over, wanted.each, wanted.share, wanted.distinct)
        found = trace(work.model, work.example)
        grid = Grid(work.model, file.recipe, space, found, lambda *p: file.where("search", *p))
        how = file.spec.calibrate
        return Evaluator(
            grid,
            figures,
            objectives,
            Calibrating(work.calibration, how.batches, how.observer),
            file.spec.seed,
            _finish(file, work),
            Costs(tuple(file.spec.cost.tables), file.spec.cost.node),
            _settings(file, work),
        )


def _shown_by(figure: str) -> str | None:
    """What shows a figure in a report, as `measure` calls it; agreement is always shown."""
    return {"agreement": None, **dict.fromkeys(COSTS, "energy")}.get(figure, figure)


def _wanted(file: ExperimentFile) -> SearchSpec:
    if file.spec.search is None:
        raise DovetailError(
            f"{file.document.name}: the key 'search' is missing; a search needs a space, such as "
            'search: {over: {"conv*.mul": [exact, mul8s_1L2H@v1.1]}}'
        )
    return file.spec.search


def _settings(file: ExperimentFile, work: Subject) -> dict[str, Any]:
    """What figures depend on besides the model, the rules and the space."""
    spec = file.spec
    keys = {"data", "calibrate", "recover", "fit", "cost"}
    found = spec.model_dump(mode="json", include=keys)
    return {
        **found,
        "recover": [each.spelled() for each in spec.recover],
        "sha256 of the data": work.data_sha256,
        "evaluate": _wanted(file).evaluate,
    }


def _finish(file: ExperimentFile, work: Subject) -> Callable[[nn.Module], None] | None:
    """What `dovetail run` does to a calibrated model before its last stage."""
    later = [each for each in file.spec.recover if each.name not in BEFORE_EMULATION]
    if not later and file.spec.fit is None:
        return None

    def finish(model: nn.Module) -> None:
        recover(file, model, work, Steps(show=False))
        if file.spec.fit is not None:
            retrain(model, work, file, progress=False, write=False)

    return finish


def _experiment(file: ExperimentFile, grid: Grid, trial: Trial, folder: Path) -> str:
    """The experiment with a trial's rules and without the search, which shows every figure that
    the search was about."""
    measure = (*file.spec.measure, *map(_shown_by, trial.values))
    chosen = [RuleSpec.model_validate(words) for words in grid.written(trial.design)]
    spec = file.spec.model_copy(
        update={
            "rules": [*file.spec.rules, *chosen],
            "search": None,
            "export": (),
            "measure": tuple(name for name in dict.fromkeys(measure) if name is not None),
            "threads": trial.threads,
            "report": f"{folder}/recipes/{trial.number}",
        }
    )
    return dump(ExperimentFile(spec, trial.recipe, file.document))
