"""Where long work that was interrupted waits for the same command."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dovetail.experiment.subject import Subject
from dovetail.recipe.schema import ExperimentFile, dump

__all__ = ["telling", "unfinished"]


def unfinished(file: ExperimentFile, work: Subject, *more: object) -> Path:
    """A path in the report's folder that belongs to this very experiment, and to ``more``."""
    what = " ".join(map(str, (dump(file), work.trained, work.data_sha256, *more)))
    digest = hashlib.sha256(what.encode()).hexdigest()[:12]
    return Path(str(file.spec.report)) / f".unfinished-{digest}"


@contextmanager
def telling(kept: Path, what: str) -> Iterator[None]:
    """Say that ``what`` goes on when it is interrupted and ``kept`` is there."""
    try:
        yield
    except KeyboardInterrupt:
        if kept.exists():
            raise KeyboardInterrupt(
                f"what is {what} so far is kept: the same command goes on from there"
            ) from None
        raise
