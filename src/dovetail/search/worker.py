"""One worker of a study: takes the next design, evaluates it, writes down what came of it."""

from __future__ import annotations

import random
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dovetail.errors import DovetailError
from dovetail.search.evaluator import Evaluator
from dovetail.search.grid import Design
from dovetail.search.journal import DONE, DROPPED, RUNNING, WAITING, Journal, Record
from dovetail.search.strategies import Anything, Greedy, History, Sampled, Strategy, unseen
from dovetail.search.surrogate import Surrogate

if TYPE_CHECKING:
    import optuna

__all__ = ["Worker", "is_evaluated"]

_PAUSE = 0.2  # seconds between two looks at what others do
_GLANCE = 0.01  # seconds until another worker has put down what it has drawn
_REPEATS = 5  # designs in a row that need no evaluation, after which one is drawn at random


def is_evaluated(record: Record) -> bool:
    """Whether this trial, and no earlier one, found the figures of its design."""
    return record.state == DONE and record.same is None


@dataclass
class Worker:
    """``trials`` designs are to be evaluated by all workers together; ``start`` come first.

    With one worker the designs follow from ``seed`` alone, however often the search was stopped
    and gone on with; ``salt`` sets workers apart.
    """

    journal: Journal
    evaluator: Evaluator
    strategy: Strategy
    trials: int
    seed: int
    name: str
    is_alive: Callable[[str], bool]
    start: list[Design] = field(default_factory=list)
    surrogate: Surrogate | None = None
    salt: int = 0

    def run(self, watch: Callable[[list[Record]], None] = lambda records: None) -> None:
        """Work until all is done; ``watch`` sees the records whenever they may have changed."""
        while True:
            self.journal.reclaim(self.is_alive)
            records = self.journal.records()
            watch(records)
            if sum(map(is_evaluated, records)) >= self.trials:
                return
            states = Counter(record.state for record in records)
            taken = sum(map(is_evaluated, records)) + states[RUNNING]
            at_random = _repeats(records) >= _REPEATS
            claimed = None
            if states[WAITING] or taken < self.trials:
                claimed = self._claim(records, at_random)
            if claimed is not None:
                self._carry_out(*claimed, at_random)
            elif not states[RUNNING] and not states[WAITING]:
                return  # there is nothing left
            else:
                time.sleep(_PAUSE)

    def _claim(self, records: list[Record], at_random: bool) -> tuple[optuna.Trial, Design] | None:
        """The next trial and its design; ``None`` if there is nothing left."""
        turn = sum(1 for r in records if r.again is None and (r.design or r.state != DROPPED))
        mark = zlib.crc32(f"{self.seed}/{turn}/{self.salt}".encode())
        history = self._history(records)
        proposed: Design | None = None
        if not any(record.state == WAITING for record in records):
            if turn < len(self.start):
                proposed = self.start[turn]
            elif at_random:
                proposed = unseen(history, random.Random(mark))
            elif not isinstance(self.strategy, Sampled):
                proposed = self.strategy.propose(history, random.Random(mark))
            if proposed is not None:
                self.journal.enqueue(proposed)
            elif at_random or not isinstance(self.strategy, Sampled):
                return None
        sampler = self.strategy if isinstance(self.strategy, Sampled) else Anything()
        sampled = self.journal.sample(sampler.sampler(mark))
        if sampled is None:
            return self._claim(self.journal.records(), at_random)
        trial, drawn = sampled
        design = history.grid.repaired(drawn) or unseen(history, random.Random(mark))
        if design is None:
            self.journal.drop(trial.number, "no design is left")
            return None
        return trial, design

    def _history(self, records: list[Record]) -> History:
        done = {
            r.design: dict(r.values) for r in records if is_evaluated(r) and r.design and r.values
        }
        return History(
            grid=self.evaluator.grid,
            objectives=self.evaluator.objectives,
            values=done,
            running=frozenset(
                r.design for r in records if r.state in (RUNNING, WAITING) and r.design
            ),
            cost=self.evaluator.costs,
            predicted=None if self.surrogate is None else self.surrogate.predicted,
        )

    def _carry_out(self, trial: optuna.Trial, design: Design, at_random: bool) -> None:
        """Evaluate the design, unless that is not needed."""
        if not self.journal.start(trial, design, self.name):
            return
        earlier = self._earlier(trial.number)
        for record in earlier:
            if record.design == design and is_evaluated(record):
                assert record.values is not None
                self.journal.finish(trial, record.values, same=record.number)
                return
        if self._is_idle(trial.number, design, earlier, at_random):
            return
        try:
            values = self.evaluator.measure(design)
        except (KeyboardInterrupt, SystemExit):
            own = (r for r in self.journal.records() if r.number == trial.number)
            self.journal.requeue(next(own))
            raise
        except DovetailError as error:
            self.journal.drop(trial.number, str(error))
            words = self.evaluator.grid.words(design)
            raise DovetailError(f"trial {trial.number} ({words}): {error}") from error
        except BaseException as error:
            self.journal.drop(trial.number, repr(error))
            raise
        self.journal.finish(trial, values)

    def _earlier(self, number: int) -> list[Record]:
        """The trials before this one, of each of which it is known what it evaluates: of two with
        one design the later one gives way."""
        while True:
            earlier = [r for r in self.journal.records() if r.number < number]
            if not any(r.state == RUNNING and r.design is None for r in earlier):
                return earlier
            time.sleep(_GLANCE)
            self.journal.reclaim(self.is_alive)

    def _is_idle(self, number: int, design: Design, earlier: list[Record], at_random: bool) -> bool:
        """Drop a trial that others are at, that is one too many, or that cannot win."""
        running = [record for record in earlier if record.state == RUNNING]
        why = None
        if any(r.design == design and r.state in (RUNNING, WAITING) for r in earlier):
            why = "evaluated by another worker"
        elif sum(map(is_evaluated, earlier)) + len(running) >= self.trials:
            why = "one too many"
        elif self.surrogate is not None and not at_random and not isinstance(self.strategy, Greedy):
            history = self._history(earlier)
            why = "predicted to lose" if self.surrogate.is_hopeless(history, design) else None
        return why is not None and (self.journal.drop(number, why) or True)


def _repeats(records: list[Record]) -> int:
    """How many trials in a row, up to the last, needed no evaluation."""
    cut_off = {record.again for record in records}
    count = 0
    for record in reversed(records):
        if is_evaluated(record):
            break
        count += record.state in (DONE, DROPPED) and record.number not in cut_off
    return count
