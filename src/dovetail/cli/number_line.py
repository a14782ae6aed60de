"""A format drawn as a number line: where its values lie, and how densely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["number_line"]


def number_line(values: Sequence[float], columns: int) -> list[str]:
    """Three lines of text: a mark for each value (a count where several share a place), axis, ends.

    >>> for line in number_line([-1.0, 0.0, 0.5, 0.75, 1.0], 21):
    ...     print(line)
    |         |    |  | |
    +---------+---------+
    -1        0         1
    """
    low, high = min(0.0, values[0]), values[-1]
    places = [round((v - low) / (high - low) * (columns - 1)) for v in values]
    marks, axis, ends = [" "] * columns, ["-"] * columns, [" "] * columns
    counts = Counter(places)
    for place in counts:
        count = counts[place]
        marks[place] = "|" if count == 1 else str(count) if count < 10 else "#"
    right = f"{high:g}"
    for value in {low, 0.0, high}:
        place = round((value - low) / (high - low) * (columns - 1))
        axis[place] = "+"
        text = f"{value:g}"
        start = min(place, columns - len(text))
        if value in (low, high) or start + 1 < columns - len(right):
            ends[start : start + len(text)] = text
    return ["".join(line).rstrip() for line in (marks, axis, ends)]
