"""Where the numbers of a training run go, step by step."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dovetail.errors import DovetailError, unknown

__all__ = ["CSVLogger", "Logger", "loggers"]

FIELDS = ("epoch", "loss", "lr", "epoch_loss", "metric")


class Logger(Protocol):
    """Anything with this method takes the numbers of a run.

    After each optimizer step it gets the ``loss`` and ``lr`` of the step, after each epoch its
    ``epoch_loss`` and, if there is one, the ``metric``; ``step`` counts optimizer steps from 1.
    A method ``start(step)``, if there is one, is called first: with 0 for a new run, else with the
    step after which an interrupted one goes on.
    """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a step."""


class CSVLogger:
    """Writes a table to ``path``: a row per step and per epoch, a column per number.

    A new run replaces the file; one that goes on drops the rows after the step where it does, so
    the file is the same as that of an uninterrupted run.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.csv"
    >>> CSVLogger(path).log(1, {"loss": 0.5, "lr": 0.001})
    >>> print(path.read_text(), end="")
    step,epoch,loss,lr,epoch_loss,metric
    1,,0.5,0.001,,
    """

    def __init__(self, path: str | Path, fields: Sequence[str] = FIELDS) -> None:
        self.path, self.fields = Path(path), tuple(fields)
        self._started = False
        if self.path.is_dir():
            raise DovetailError(f"{self.path}: a folder; give a file, such as {self.path}/run.csv")

    def start(self, step: int) -> None:
        """Keep the rows up to ``step`` of what an earlier run wrote; none for 0."""
        rows: list[list[str]] = []
        if step and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in list(csv.reader(file))[1:] if row and int(row[0]) <= step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([["step", *self.fields], *rows])
        self._started = True

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row."""
        for name in values:
            if name not in self.fields:
                raise unknown("column", name, self.fields)
        if not self._started:
            self.start(0)
        row = [str(step), *(_cell(values.get(name)) for name in self.fields)]
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(row)


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)


class _Scalars:
    """TensorBoard's ``SummaryWriter``, and whatever else has its ``add_scalar``."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)


def loggers(given: Any) -> list[Logger]:
    """What ``dv.fit(logger=...)`` takes, as loggers: one or a list of them.

    A path is a CSV file; what has ``log(step, values)`` is taken as it is, what has
    ``add_scalar(name, value, step)`` is a TensorBoard writer.

    >>> loggers(None), [type(one).__name__ for one in loggers("run.csv")]
    ([], ['CSVLogger'])
    >>> loggers(3)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: 3 is no logger: it has neither log(step, values) nor ...
    """
    if given is None:
        return []
    if isinstance(given, (list, tuple)):
        return [one for item in given for one in loggers(item)]
    if isinstance(given, (str, Path)):
        return [CSVLogger(given)]
    if callable(getattr(given, "log", None)):
        return [given]
    if callable(getattr(given, "add_scalar", None)):
        return [_Scalars(given)]
    raise DovetailError(
        f"{given!r} is no logger: it has neither log(step, values) nor TensorBoard's add_scalar; "
        "a path writes a CSV file"
    )
