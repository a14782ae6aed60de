"""``dv.search``: the designs of a space that no other beats."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from dovetail._threads import computing_with
from dovetail.errors import DovetailError
from dovetail.recipe import Recipe
from dovetail.recipe.schema import names_data, spell_rules
from dovetail.search.evaluator import Calibrating, Evaluate, Evaluator
from dovetail.search.executors import carry_out
from dovetail.search.files import write
from dovetail.search.front import Front, Trial
from dovetail.search.grid import Grid
from dovetail.search.measures import Costs
from dovetail.search.objectives import Objectives
from dovetail.search.progress import watching
from dovetail.search.space import Space
from dovetail.search.study import front_of, open_journal, wanted_trials
from dovetail.search.task import Conduct, ModelTask, Task

__all__ = ["found_by", "search"]


def search(
    model: nn.Module,
    space: Space | Mapping[str, Sequence[Any]],
    evaluate: Evaluate | Iterable[Any],
    *,
    example: Any = None,
    recipe: Recipe | None = None,
    calibration: Iterable[Any] | None = None,
    batches: int = 4,
    observer: str = "minmax",
    objectives: Mapping[str, str] | None = None,
    constraints: Mapping[str, str] | None = None,
    trials: int = 60,
    strategy: str = "nsga2",
    surrogate: bool = False,
    tables: Sequence[str | Path] = (),
    node: float | None = None,
    seed: int = 0,
    workers: int = 1,
    executor: str = "processes",
    threads: int | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
) -> Front:
    """Look for the designs that no other design of a space beats in every objective.

    ``space`` is a :class:`dovetail.Space`, or its ``over`` alone: ``{"conv*.mul": [...]}``. Every
    design is ``recipe`` (empty if left out) with one more rule per decision. ``evaluate`` is a
    function of the emulated model, which gives a mapping of figures or the one figure that the
    objectives do not find elsewhere; or a loader of batches ``(inputs..., target)``, which tells
    ``accuracy``, ``agreement`` (with the exact model), ``perplexity`` and ``sqnr`` (dB). Without
    measuring these are known: ``energy``, that of all products relative to exact ones of the same
    width; and what :func:`dovetail.cost` says of the example batch by ``tables`` and ``node``:
    ``energy_pj`` (arithmetic), ``memory_pj``, ``total_pj``, ``area_um2``, ``delay_ns``, ``bops``,
    ``weight_bytes`` and ``activation_bytes``.

    ``objectives`` are figures to make largest (``max``) or smallest (``min``), of any number, by
    default ``{"accuracy": "max", "energy": "min"}``; ``constraints`` are bounds of figures,
    ``{"accuracy": ">=0.95", "energy": "<= 60%"}``. Ranges are calibrated on the first ``batches``
    of ``calibration``, or come of ``example``; one calibration serves all designs with the same
    casts.

    Strategies: ``nsga2`` and ``tpe`` (Optuna), ``greedy`` by sensitivity, ``mcts`` (tree search,
    led by sensitivity), ``exhaustive``, which is refused for more than 4,096 designs. The first
    two begin with the uniform designs. ``trials`` counts designs that are evaluated; none is
    evaluated twice. With ``surrogate`` designs that first-order attribution predicts to lose are
    passed over. With one worker the result follows from ``seed`` alone.

    With a ``folder`` every result is written to ``study.journal`` at once, and the same call goes
    on where an earlier one stopped; at the end the front is written there too. Several ``workers``,
    and several machines that share the folder, work on one study; one that is killed loses no
    finished trial, and another takes its running one up. ``executor`` says where workers run:
    ``processes`` of this machine or ``ray``; each computes with ``threads``. The model is left as
    it was.

    Everything is refused that can be before the first trial.

    >>> import torch
    >>> from dovetail.recipe import rule
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> x = torch.randn(32, 8)
    >>> loader = [(x, net(x).argmax(1))]
    >>> front = search(
    ...     net,
    ...     Space(each={"*.mul": ["exact", "mul8s_1L2H@v1.1"]}),
    ...     loader,
    ...     example=x,
    ...     recipe=Recipe(rule("*", input="int8", weight="int8")),
    ...     objectives={"sqnr": "max", "energy": "min"},
    ...     strategy="exhaustive",
    ... )
    >>> front.size, front.best("energy").design
    (4, {'0.mul': 'mul8s_1L2H@v1.1', '2.mul': 'mul8s_1L2H@v1.1'})
    """
    wanted = Objectives(
        {"accuracy": "max", "energy": "min"} if objectives is None else objectives,
        constraints or {},
    )
    calibrating = None if calibration is None else Calibrating(calibration, batches, observer)
    task = ModelTask(
        model=model,
        base=recipe or Recipe(),
        space=space if isinstance(space, Space) else Space(space),
        example=example,
        evaluate=evaluate,
        objectives=wanted,
        calibrating=calibrating,
        seed=seed,
        prices=Costs(tuple(tables), node),
    )
    place = None if folder is None else Path(folder)
    conduct = Conduct(place, strategy, trials, seed, surrogate, threads)
    return found_by(task, conduct, _rules, workers=workers, executor=executor, progress=progress)


def found_by(
    task: Task,
    conduct: Conduct,
    recipe: Callable[[Grid, Trial], str],
    *,
    workers: int = 1,
    executor: str = "processes",
    progress: bool = False,
) -> Front:
    """Carry out a task; ``recipe`` gives the text of a trial's recipe for the folder."""
    _check(conduct, workers)
    with computing_with(conduct.threads):
        return _found_by(task, conduct, recipe, workers, executor, progress)


def _found_by(
    task: Task,
    conduct: Conduct,
    recipe: Callable[[Grid, Trial], str],
    workers: int,
    executor: str,
    progress: bool,
) -> Front:
    evaluator = task.prepare()
    if conduct.folder is None and (workers > 1 or executor != "processes"):
        with tempfile.TemporaryDirectory(prefix="dovetail-search-") as place:
            inside = replace(conduct, folder=Path(place))
            front = _found(task, inside, evaluator, workers, executor, progress)
        return replace(front, folder=None)
    if conduct.folder is None:
        return _found(task, conduct, evaluator, workers, executor, progress)
    _check_recipes(evaluator)
    conduct.folder.mkdir(parents=True, exist_ok=True)
    open_journal(conduct, evaluator)  # refused here, if it is of another study
    complete = False
    try:
        _found(task, conduct, evaluator, workers, executor, progress)
        complete = True
    finally:
        journal = open_journal(conduct, evaluator)
        front = front_of(journal, evaluator, conduct, complete=complete)
        write(front, conduct.folder, lambda trial: recipe(evaluator.grid, trial))
    return front


def _found(
    task: Task,
    conduct: Conduct,
    evaluator: Evaluator,
    workers: int,
    executor: str,
    progress: bool,
) -> Front:
    journal = open_journal(conduct, evaluator)
    with watching(wanted_trials(conduct, evaluator), evaluator, show=progress) as watch:
        carry_out(task, conduct, evaluator, journal, watch, workers=workers, executor=executor)
    return front_of(journal, evaluator, conduct, complete=True)


def _rules(grid: Grid, trial: Trial) -> str:  # noqa: ARG001
    return spell_rules(trial.recipe.rules, f"trial {trial.number}")


def _check(conduct: Conduct, workers: int) -> None:
    for name, value in (("trials", conduct.trials), ("workers", workers)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise DovetailError(f"{name}={value!r}: give a whole number from 1")


def _check_recipes(evaluator: Evaluator) -> None:
    """Refuse a folder for recipes that no file can hold."""
    for axis in evaluator.grid.axes:
        for index, choice in enumerate(axis.choices):
            in_memory = not isinstance(choice.written.get("mul"), Mapping)
            if in_memory and any(map(names_data, axis.rules(index))):
                raise DovetailError(
                    f"{axis.place}: no file can hold mul={choice.label}, made from data in memory: "
                    "save its table(), such as to table.npy, and give {'file': 'table.npy'}; or "
                    "search without a folder"
                )
