"""The numbers of approximated functions, searched for those that fit what an operation sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dovetail._numbers import is_whole
from dovetail._optional import optional
from dovetail.emulation import PlannedOp, Watched, tap
from dovetail.emulation.operate import cast_operands
from dovetail.emulation.operators import OpCall
from dovetail.emulation.transforms import add_transform
from dovetail.errors import DovetailError
from dovetail.kinds import KINDS
from dovetail.recovery.batches import Batches, quiet
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import Operation, Select, operations
from dovetail.recovery.tunable import COUNTS, tunable, with_number

__all__ = ["tune_functions"]


def tune_functions(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    select: Select = "*",
    trials: int = 50,
    seed: int = 0,
    budget: float = 1.0,
) -> Recovery:
    """Search the numbers of each selected operation's ``fn=`` for those of least error on what the
    operation sees: ``trials`` sets of them, proposed by Optuna's TPE sampler from ``seed``.

    Searched are, of it and of its parts (the ``exp`` of a softmax), a ``domain`` where the function
    takes one, each end from 0.05 to 1.25 of the extreme input on its side (an end without inputs on
    its side stays at that extreme); a ``clamp`` that is given, from -32 to -1; and, with
    ``budget`` above 1, ``segments``, ``entries``, ``degree`` and ``steps`` from what they are to
    ``budget`` times that. So at 1 the hardware stays as large as it is. Formats stay.

    The objective is the squared error of the function over ``batches``, on the operands that the
    model casts for it before anything is changed, relative to the exact result. It never grows: the
    numbers at hand are compared, too, and win a tie. The parameters of the model stay; ``dv.state``
    saves the new spelling, while the plan goes on showing the rule's. Every trial runs ``batches``
    once, for all operations together. Of the selected operations only those with ``fn=`` are
    treated. Needs ``dovetail[search]``. Source of the search: Bergstra and others, Algorithms for
    hyper-parameter optimization, NeurIPS 2011.

    >>> import dovetail as dv
    >>> dv.tune_functions(nn.Sequential(nn.Tanh()), [torch.ones(1)], trials=0)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: tune_functions: trials=0 is a number of trials, such as 50
    """
    if not is_whole(trials) or trials < 1:
        raise DovetailError(f"tune_functions: trials={trials!r} is a number of trials, such as 50")
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise DovetailError(f"tune_functions: seed={seed!r} is a whole number such as 0")
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget >= 1:
        raise DovetailError(f"tune_functions: budget={budget!r} is a factor of 1 or more")
    optuna = optional("optuna", extra="search")
    inputs = Batches(batches, model)
    chosen = _approximated(model, inputs, select)
    with Work("tune_functions", "squared error of the function") as work:
        seen = _Extremes()
        _watch(model, inputs, chosen, seen.see, "tune_functions: inputs")
        with _quietly(optuna):
            searches = {op: _Search(op, seen.of(op), budget, optuna, seed) for op in chosen}
        open_ones = [op for op in chosen if searches[op].space]
        _try(model, inputs, chosen, searches, "tune_functions: as it is")
        for number in range(trials if open_ones else 0):
            for op in open_ones:
                searches[op].propose()
            _try(model, inputs, open_ones, searches, f"tune_functions: trial {number + 1}")
        for op in chosen:
            _settle(work, op, searches[op])
    return work.result


def _approximated(model: nn.Module, batches: Batches, select: Select) -> list[Operation]:
    found = operations(model, batches)
    if not found.emulated:
        raise DovetailError(
            "tune_functions: this model is not emulated: call dv.apply_ on it first"
        )
    kinds = [name for name, kind in KINDS.items() if not kind.is_product]
    chosen = found.select("tune_functions", select, kinds)
    chosen = [op for op in chosen if op.site is not None and op.site.arithmetic.fn is not None]
    if not chosen:
        raise DovetailError("tune_functions: no selected operation has fn=: give one by a rule")
    return chosen


class _Search:
    """One operation's trials: the candidate at hand, the best so far, their errors."""

    def __init__(
        self, op: Operation, extremes: tuple[float, float], budget: float, optuna: Any, seed: int
    ) -> None:
        assert op.site is not None
        fn = op.site.arithmetic.fn
        assert fn is not None
        self.kind, self.extremes = op.kind, extremes
        self.space = tunable(fn, op.kind, extremes, budget)
        self.given = self.best = self.candidate = fn
        self.before = self.after = float("inf")
        self.wrong = self.power = 0.0
        self.optuna, self.trial = optuna, None
        self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))

    def propose(self) -> None:
        self.trial = trial = self.study.ask()
        fn, ends = self.given, {}
        for path, (low, high) in self.space.items():
            suggest = trial.suggest_int if path[-1] in COUNTS else trial.suggest_float
            value = suggest(".".join(path), low, high)
            if path[-1] in ("low", "high"):
                ends[path] = value
            else:
                fn = with_number(fn, path, value)
        for path in {path[:-1]: None for path in ends}:
            low = ends.get((*path, "low"), self.extremes[0])
            fn = with_number(fn, path, (low, ends.get((*path, "high"), self.extremes[1])))
        self.candidate = fn

    def see(self, call: OpCall) -> None:
        """Measure the candidate on one more call."""
        exact = call.exact().double()
        wrong = self.candidate.compute(call.kind, call.operands, call.attributes).double() - exact
        known = exact.isfinite()  # scores that a mask hides have an infinite logarithm
        self.wrong += float(wrong[known].square().sum())
        self.power += float(exact[known].square().sum())

    def finish(self) -> None:
        error = self.wrong / max(self.power, 1e-300)
        self.wrong = self.power = 0.0
        if self.trial is None:
            self.before = self.after = error
            return
        if error < self.after:
            self.best, self.after = self.candidate, error
        if error < float("inf"):
            self.study.tell(self.trial, error)
        else:
            self.study.tell(self.trial, state=self.optuna.trial.TrialState.FAIL)


def _try(
    model: nn.Module,
    batches: Batches,
    ops: list[Operation],
    searches: dict[Operation, _Search],
    text: str,
) -> None:
    _watch(model, batches, ops, lambda op, call: searches[op].see(call), text)
    for op in ops:
        searches[op].finish()


class _Extremes:
    """The smallest and largest finite input of each operation."""

    def __init__(self) -> None:
        self.found: dict[Operation, Tensor] = {}

    def see(self, op: Operation, call: OpCall) -> None:
        x = call.operands["input"]
        x = x[x.isfinite()].double()
        if x.numel():
            ends = torch.stack(x.aminmax())
            old = self.found.get(op, ends)
            self.found[op] = torch.stack([torch.minimum(old, ends)[0], torch.maximum(old, ends)[1]])

    def of(self, op: Operation) -> tuple[float, float]:
        if op not in self.found:
            raise DovetailError(f"tune_functions: no batch reached {op.key} with finite values")
        low, high = self.found[op].tolist()
        return low, high


def _watch(model: nn.Module, batches: Batches, ops: list[Operation], see: Any, text: str) -> None:
    """Every call of some operations, on operands as they are cast."""
    by_key = {op.site.op.key: op for op in ops if op.site is not None}

    def watch(planned: PlannedOp, seen: Watched) -> None:
        op = by_key.get(planned.key)
        if op is not None:
            assert isinstance(seen.call, OpCall)
            see(op, cast_operands(seen.site, seen.module, seen.call.without_effects()))

    with quiet(model), tap(model, watch):
        for batch in batches.over(text):
            model(*batch.args, **batch.kwargs)


def _settle(work: Work, op: Operation, search: _Search) -> None:
    if search.best == search.given:
        work.note(op.key, f"left as it is: {search.given}", search.before, search.before)
        return
    assert op.site is not None
    work.journal.save(op.module)
    spelling = torch.tensor(list(str(search.best).encode()), dtype=torch.uint8)
    add_transform(op.site, op.module, "function", {"spelling": spelling})
    work.note(op.key, f"{search.given} became {search.best}", search.before, search.after)


@contextmanager
def _quietly(optuna: Any) -> Iterator[None]:
    """Without a line for every study."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
