"""Fronts against their definition, and bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dovetail as dv
from dovetail.search import Objectives
from dovetail.search.objectives import dominates, undominated

points = st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=30)


@given(points)
def test_the_front_is_what_nothing_dominates(given: list[tuple[int, ...]]) -> None:
    every = {tuple(map(float, point)) for point in given}
    assert undominated(every) == {p for p in every if not any(dominates(q, p) for q in every)}


def test_what_misses_a_bound_is_not_on_the_front() -> None:
    wanted = Objectives({"a": "max", "e": "min"}, {"e": "<= 50%"})
    values = {0: {"a": 0.9, "e": 0.6}, 1: {"a": 0.8, "e": 0.5}, 2: {"a": 0.7, "e": 0.5}}
    assert wanted.front(values) == [1]


@pytest.mark.parametrize(
    ("condition", "value", "met"),
    [(">=0.5", 0.5, True), (">0.5", 0.5, False), ("<1", 0.9, True), ("<=2", math.nan, False)],
)
def test_bounds(condition: str, value: float, met: bool) -> None:
    wanted = Objectives({"a": "max"}, {"a": condition})
    assert wanted.is_feasible({"a": value}) is met
    assert (wanted.violations({"a": value})["a"] > 0) is not met


def test_nan_is_the_worst() -> None:
    wanted = Objectives({"a": "max", "b": "min"})
    assert wanted.losses({"a": math.nan, "b": math.nan}) == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("directions", "bounds", "message"),
    [
        ({}, {}, "objectives map figures to max or min"),
        ({"a": "maximum"}, {}, "unknown direction 'maximum'; did you mean 'max'?"),
        ({"a": "max"}, {"a": "0.9"}, 'constraints: a: expected a condition such as ">=0.95"'),
    ],
)
def test_refusals(directions, bounds, message: str) -> None:
    with pytest.raises(dv.DovetailError, match=message):
        Objectives(directions, bounds)
