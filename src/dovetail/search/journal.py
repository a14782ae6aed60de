"""The journal of a study: what was tried and what came of it, in a file that many may write."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dovetail._optional import optional
from dovetail.errors import DovetailError
from dovetail.search.grid import Design, Grid
from dovetail.search.identity import refuse_another
from dovetail.search.objectives import Objectives
from dovetail.search.storage import storage

if TYPE_CHECKING:
    import optuna

__all__ = ["Journal", "Record"]

_STUDY = "search"
_ABOUT = "dovetail"
_MOST_TRIES = 3
#: Seconds that a worker may take to put its name to a trial that it has drawn.
_NAMELESS = 10
DONE, RUNNING, WAITING, DROPPED = "done", "running", "waiting", "dropped"


@dataclass(frozen=True)
class Record:
    """One trial. ``same`` is the trial whose figures it has, where the design was known already;
    ``again`` the one that was cut off, where it was taken up once more. ``age`` are the seconds
    since it was begun, ``threads`` those that it computes with."""

    number: int
    state: str
    design: Design | None
    values: Mapping[str, float] | None
    worker: str | None
    same: int | None
    again: int | None
    tries: int
    age: float = 0.0
    threads: int | None = None


class Journal:
    """A study of Optuna's, in a file or, without a path, in memory."""

    def __init__(
        self,
        path: Path | None,
        grid: Grid,
        objectives: Objectives,
        about: Mapping[str, Any],
    ) -> None:
        self._grid, self._objectives, self.path = grid, objectives, path
        with _quiet():
            self.study = _study(path, objectives)
        known = self.study.user_attrs.get(_ABOUT)
        if known is None:
            self.study.set_user_attr(_ABOUT, dict(about))
        else:
            refuse_another(known, about, path)

    def records(self) -> list[Record]:
        """Every trial, in the order of their numbers."""
        return [self._record(trial) for trial in self.study.get_trials(deepcopy=False)]

    def _record(self, trial: optuna.trial.FrozenTrial) -> Record:
        attributes = trial.user_attrs
        design = attributes.get("design")
        return Record(
            number=trial.number,
            state=_STATES[trial.state.name],
            design=None if design is None else tuple(design),
            values=attributes.get("values"),
            worker=attributes.get("worker"),
            same=attributes.get("same"),
            again=attributes.get("again"),
            tries=attributes.get("tries", 1),
            age=(datetime.now() - (trial.datetime_start or datetime.now())).total_seconds(),
            threads=attributes.get("threads"),
        )

    def sample(self, sampler: optuna.samplers.BaseSampler) -> tuple[optuna.Trial, Design] | None:
        """A new trial, of a design that the sampler draws; or one that waits. ``None`` where
        another worker gave it up meanwhile."""
        distributions = optional("optuna.distributions", extra="search")
        choices = {
            axis.name: distributions.CategoricalDistribution([c.label for c in axis.choices])
            for axis in self._grid.axes
        }
        with _quiet():
            self.study.sampler = sampler
            try:
                trial = self.study.ask(choices)
            except optional("optuna.exceptions", extra="search").UpdateFinishedTrialError:
                return None
            if isinstance(sampler, optional("optuna.samplers", extra="search").BaseGASampler):
                # A design that was named is of a generation as any other.
                frozen = self.study._storage.get_trial(trial._trial_id)
                sampler.get_trial_generation(self.study, frozen)
        labels = ([choice.label for choice in axis.choices] for axis in self._grid.axes)
        named = zip(self._grid.axes, labels, strict=True)
        return trial, tuple(known.index(trial.params[axis.name]) for axis, known in named)

    def enqueue(self, design: Design, **attributes: Any) -> None:
        """Have the next trial be one of this design."""
        about = {"design": list(design), **attributes}
        with _quiet():
            self.study.enqueue_trial(self._grid.words(design), user_attrs=about)

    def start(self, trial: optuna.Trial, design: Design, worker: str) -> bool:
        """Write down who evaluates which design; ``False`` where another worker gave it up."""
        try:
            trial.set_user_attr("design", list(design))
            trial.set_user_attr("threads", torch.get_num_threads())
            trial.set_user_attr("worker", worker)
        except optional("optuna.exceptions", extra="search").UpdateFinishedTrialError:
            return False
        return True

    def finish(
        self, trial: optuna.Trial, values: Mapping[str, float], same: int | None = None
    ) -> None:
        """Write down the figures of a trial; those of another where it has the same design."""
        if same is not None:
            trial.set_user_attr("same", same)
        trial.set_user_attr("values", dict(values))
        for name, missed in self._objectives.violations(values).items():
            trial.set_constraint(name, missed)
        losses = self._objectives.losses(values)
        signs = (-1 if d == "max" else 1 for d in self._objectives.directions.values())
        with _quiet():
            self.study.tell(trial, [s * loss for s, loss in zip(signs, losses, strict=True)])

    def drop(self, number: int, why: str) -> bool:
        """Give a trial up; ``False`` if it has ended already."""
        states = optional("optuna.trial", extra="search").TrialState
        errors = optional("optuna.exceptions", extra="search")
        place = self.study.get_trials(deepcopy=False)[number]._trial_id
        storage = self.study._storage
        try:
            storage.set_trial_user_attr(place, "dropped", why)
            return bool(storage.set_trial_state_values(place, states.FAIL))
        except errors.UpdateFinishedTrialError:
            return False

    def requeue(self, record: Record) -> None:
        """Have a trial that was cut off taken up again by whoever comes next."""
        if not self.drop(record.number, "cut off") or record.design is None:
            return
        if record.tries >= _MOST_TRIES:
            raise DovetailError(
                f"trial {record.number} was cut off {record.tries} times, each time with its "
                f"worker ({self._grid.words(record.design)}): does it need more memory than there "
                "is?"
            )
        self.enqueue(record.design, again=record.number, tries=record.tries + 1)

    def reclaim(self, is_alive: Callable[[str], bool]) -> None:
        """Take the trials of dead workers back, and those that nobody put a name to."""
        for record in self.records():
            if record.state != RUNNING:
                continue
            lost = record.age > _NAMELESS if record.worker is None else not is_alive(record.worker)
            if lost:
                self.requeue(record)


_STATES = {
    "COMPLETE": DONE,
    "RUNNING": RUNNING,
    "WAITING": WAITING,
    "FAIL": DROPPED,
    "PRUNED": DROPPED,
}


def _study(path: Path | None, objectives: Objectives) -> optuna.Study:
    package = optional("optuna", extra="search")
    words = {"max": "maximize", "min": "minimize"}
    made: optuna.Study = package.create_study(
        storage=None if path is None else storage(path),
        study_name=_STUDY,
        directions=[words[direction] for direction in objectives.directions.values()],
        load_if_exists=True,
    )
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's messages about every trial, and about what it calls experimental."""
    logging = optional("optuna.logging", extra="search")
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            yield
    finally:
        logging.set_verbosity(before)
