"""A whole experiment, from its file to its report: `run(path)` is what `dovetail run` does."""

from dovetail.experiment.check import check
from dovetail.experiment.result import RunResult, Stage
from dovetail.experiment.run import run
from dovetail.experiment.subject import Subject, subject

__all__ = ["RunResult", "Stage", "Subject", "check", "run", "subject"]
