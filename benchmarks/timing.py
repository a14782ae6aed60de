"""Ratios of running times that survive a busy machine."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping


def ratios(
    baseline: Callable[[], object],
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    between: Callable[[str], None] = lambda name: None,
    clock: Callable[[], float] = time.perf_counter,
    at_least: float = 0.0,
) -> dict[str, float]:
    """Median over rounds of each candidate's time over the baseline's, taken next to each other.

    Every candidate runs right after a baseline of its own, so that a machine that slows down for a
    while slows both; the median drops the rounds in which it slowed between the two. ``between`` is
    called, untimed, before each candidate. ``clock`` may be ``time.thread_time`` for work on one
    thread: then what others do in the meantime does not count. What is timed is as many calls as
    take the baseline ``at_least`` so many seconds, one otherwise.
    """
    calls = 1
    if at_least:
        seconds(baseline, clock)
        calls = math.ceil(at_least / max(seconds(baseline, clock), 1e-6))
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in range(rounds + 1):
        for name, candidate in candidates.items():
            between(name)
            reference = seconds(baseline, clock, calls)
            time_ = seconds(candidate, clock, calls)
            if round_:  # the first round warms caches and memory
                taken[name].append(time_ / reference)
    return {name: statistics.median(values) for name, values in taken.items()}


def clock_of(threads: int) -> Callable[[], float]:
    """Processor time of one thread, which others do not lengthen; of more, time on the wall."""
    return time.thread_time if threads == 1 else time.perf_counter


def seconds(call: Callable[[], object], clock: Callable[[], float], calls: int = 1) -> float:
    """What so many calls take."""
    start = clock()
    for _ in range(calls):
        call()
    return clock() - start
