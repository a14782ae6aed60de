"""A study from opening its journal to its front, as every worker and whoever watches sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from dovetail.search.evaluator import Evaluator
from dovetail.search.files import JOURNAL
from dovetail.search.front import Front, Trial
from dovetail.search.grid import Design
from dovetail.search.identity import identity
from dovetail.search.journal import DROPPED, Journal, Record
from dovetail.search.presence import Presence
from dovetail.search.strategies import History, predicted_path, strategy
from dovetail.search.surrogate import Surrogate, surrogate
from dovetail.search.task import Conduct
from dovetail.search.worker import Worker, is_evaluated

__all__ = ["Watch", "front_of", "open_journal", "wanted_trials", "work"]

#: Is shown the records of a study whenever they may have changed.
Watch = Callable[[list[Record]], None]


def open_journal(conduct: Conduct, evaluator: Evaluator) -> Journal:
    """The journal of a folder, refused if it is of another search; one in memory without."""
    path = None if conduct.folder is None else conduct.folder / JOURNAL
    return Journal(path, evaluator.grid, evaluator.objectives, identity(evaluator))


def work(
    evaluator: Evaluator, conduct: Conduct, journal: Journal, watch: Watch, salt: int = 0
) -> None:
    """Be one worker, until as many designs are evaluated as ``conduct`` says."""
    known = _surrogate(evaluator, conduct)
    how = strategy(conduct.strategy, evaluator.grid, conduct.trials)
    with _presence(conduct.folder) as presence:
        Worker(
            journal=journal,
            evaluator=evaluator,
            strategy=how,
            trials=wanted_trials(conduct, evaluator),
            seed=conduct.seed,
            name="here" if presence is None else presence.name,
            is_alive=(lambda name: True) if presence is None else presence.is_alive,
            start=_start(evaluator, conduct, known),
            surrogate=known,
            salt=salt,
        ).run(watch)


def wanted_trials(conduct: Conduct, evaluator: Evaluator) -> int:
    """How many designs are to be evaluated: all, if exhaustively."""
    return evaluator.grid.size if conduct.strategy == "exhaustive" else conduct.trials


def front_of(journal: Journal, evaluator: Evaluator, conduct: Conduct, *, complete: bool) -> Front:
    """What the journal holds by now; ``complete`` if the search has come to its end."""
    grid, objectives = evaluator.grid, evaluator.objectives
    records = journal.records()
    trials = tuple(
        Trial(
            record.number,
            grid.words(record.design),
            dict(record.values),
            grid.recipe(record.design),
            objectives.is_feasible(record.values),
            record.threads,
        )
        for record in records
        if is_evaluated(record) and record.design is not None and record.values is not None
    )
    return Front(
        objectives=objectives,
        trials=trials,
        size=grid.size,
        repeats=sum(record.same is not None for record in records),
        dropped=sum(record.state == DROPPED for record in records),
        complete=complete,
        folder=conduct.folder,
    )


def _start(evaluator: Evaluator, conduct: Conduct, known: Surrogate | None) -> list[Design]:
    """What comes first: the uniform designs, so that the front is never worse than they are, for up
    to half of all trials; with a surrogate then its path from the first choices to the cheapest
    design, for up to a quarter. What is too many is thinned out evenly."""
    if conduct.strategy in ("greedy", "exhaustive"):
        return []
    first = _thinned(evaluator.grid.uniform(), conduct.trials // 2)
    if known is None:
        return first
    history = History(
        evaluator.grid, evaluator.objectives, cost=evaluator.costs, predicted=known.predicted
    )
    path = [design for design in predicted_path(history) if design not in first]
    return [*first, *_thinned(path, conduct.trials // 4)]


def _thinned(designs: list[Design], most: int) -> list[Design]:
    most = max(1, most)
    if len(designs) <= most:
        return designs
    return [designs[i * (len(designs) - 1) // max(1, most - 1)] for i in range(most)]


def _surrogate(evaluator: Evaluator, conduct: Conduct) -> Surrogate | None:
    if not conduct.surrogate or conduct.strategy == "exhaustive":
        return None
    return surrogate(evaluator.grid, evaluator.predict)


@contextlib.contextmanager
def _presence(folder: Path | None) -> Iterator[Presence | None]:
    if folder is None:
        yield None
    else:
        with Presence(folder / "workers") as presence:
            yield presence
