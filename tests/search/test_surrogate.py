"""The surrogate: what it predicts, and what it passes over."""

from __future__ import annotations

import pytest

import dovetail as dv
from dovetail.emulation.trace import trace
from dovetail.search import Objectives, Space
from dovetail.search.evaluator import Calibrating, Evaluator
from dovetail.search.grid import Grid
from dovetail.search.measures import OnData
from dovetail.search.strategies import History
from dovetail.search.surrogate import Surrogate, surrogate
from search_models import BASE, MULS, Small, batches, found, values

SPACE = Space(each={"*.mul": MULS})
GOALS = Objectives({"perplexity": "min", "energy": "min"})


def evaluator() -> Evaluator:
    model = Small()
    grid = Grid(model, BASE, SPACE, trace(model, batches()[0][0]))
    return Evaluator(grid, OnData(batches()), GOALS, Calibrating(batches()))


def test_a_prediction_is_the_sum_of_what_its_choices_add() -> None:
    made = evaluator()
    predicted = surrogate(made.grid, made.predict)
    assert [row[0] for row in predicted.predicted] == [0.0, 0.0, 0.0]  # an exact product adds none
    assert predicted.loss((2, 1, 0)) == pytest.approx(
        predicted.predicted[0][2] + predicted.predicted[1][1]
    )
    alone = made.predict((2, 2, 2))
    assert predicted.predicted[1][2] == alone[("b", "mul")]


def history(losses: dict[tuple[int, ...], float]) -> History:
    made = evaluator()
    values = {d: {"perplexity": y, **made.costs(d)} for d, y in losses.items()}
    return History(made.grid, GOALS, values, cost=made.costs)


def test_only_what_is_beaten_beyond_doubt_is_hopeless() -> None:
    rows = ((0.0, 1.0, 5.0),) * 3
    known = Surrogate(rows)
    designs = [(i, j, 0) for i in range(3) for j in range(3)]
    exact = history({d: known.loss(d) for d in designs})
    assert not known.is_hopeless(exact, (0, 0, 0))  # nothing is better
    assert not known.is_hopeless(exact, (2, 2, 0))  # nothing is cheaper
    worse = history({d: known.loss(d) for d in designs} | {(2, 2, 2): 0.5})
    assert not known.is_hopeless(worse, (2, 2, 2))
    assert not known.is_hopeless(history({(0, 0, 0): 0.0}), (0, 0, 1))  # too little is known


def test_a_beaten_design_is_passed_over() -> None:
    rows = ((0.0, 1.0, 5.0), (0.0, 9.0, 1.0), (0.0, 0.0, 0.0))
    known = Surrogate(rows)
    designs = [(i, j, 0) for i in range(3) for j in range(3) if (i, j) != (0, 1)]
    before = history({d: known.loss(d) for d in designs})
    assert known.is_hopeless(before, (0, 1, 0))  # dearer than (0, 2, 0), and predicted to be worse


@pytest.mark.parametrize("name", ["nsga2", "tpe", "greedy", "mcts"])
def test_searches_with_one_find_the_ends_of_the_front(name: str) -> None:
    front = found(
        space=SPACE,
        objectives=GOALS.directions,
        strategy=name,
        surrogate=True,
        trials=12,
        seed=1,
    )
    again = found(
        space=SPACE,
        objectives=GOALS.directions,
        strategy=name,
        surrogate=True,
        trials=12,
        seed=1,
    )
    assert again.to_dict() == front.to_dict()
    assert len(front.trials) == 12
    every = found(space=SPACE, objectives=GOALS.directions, strategy="exhaustive")
    assert max(values(every)) in values(front) or min(values(every)) in values(front)


def test_it_needs_batches_to_predict_on() -> None:
    with pytest.raises(dv.DovetailError, match="give it calibration="):
        found(surrogate=True, calibration=None)
