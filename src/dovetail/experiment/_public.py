"""The public names of `dovetail.experiment`."""

from dovetail.experiment.attribution import attribute
from dovetail.experiment.check import check
from dovetail.experiment.export import export
from dovetail.experiment.result import RunResult, Stage
from dovetail.experiment.run import run
from dovetail.experiment.search import search
from dovetail.experiment.subject import Subject, subject

__all__ = [
    "RunResult",
    "Stage",
    "Subject",
    "attribute",
    "check",
    "export",
    "run",
    "search",
    "subject",
]
