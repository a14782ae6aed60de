"""The retraining that an experiment's `fit` asks for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import nn

from dovetail.analysis import accuracy
from dovetail.errors import DovetailError
from dovetail.experiment.subject import Subject, function
from dovetail.experiment.unfinished import telling, unfinished
from dovetail.recipe.document import at
from dovetail.recipe.schema import ExperimentFile
from dovetail.training import FitResult, fit
from dovetail.training.distillation import distillation
from dovetail.training.optimizers import named_optimizer
from dovetail.training.rates import learning_rate

__all__ = ["check_options", "retrain"]

_READERS = {"optimizer": named_optimizer, "schedule": learning_rate, "distill": distillation}
_TARGETS = ("loss", "scheduler")
_FILES = frozenset({"checkpoint", "checkpoint_every", "logger"})


def check_options(work: Subject, file: ExperimentFile) -> None:
    """Refuse what `fit` cannot do, before anything is measured."""
    spec = file.spec.fit
    if spec is None:
        return
    for name, read in _READERS.items():
        value = getattr(spec, name)
        if value is not None:
            with at(file.where("fit", name)):
                read(value)
    for name in _TARGETS:
        if getattr(spec, name) is not None:
            function(getattr(spec, name), file.where("fit", name))
    if spec.evaluate is not None and getattr(work, spec.evaluate) is None:
        raise DovetailError(
            f"{file.where('fit', 'evaluate')}: the data has no '{spec.evaluate}'; "
            "give a loader of that name, or evaluate on calibration"
        )


def retrain(
    model: nn.Module, work: Subject, file: ExperimentFile, *, progress: bool, write: bool
) -> FitResult:
    """Train `model` as `fit` says; without `write` no checkpoint and no log.

    Where `fit` names no checkpoint, one stands in the report's folder until the training is done:
    what is interrupted goes on after the last whole epoch when the same experiment runs again.
    """
    spec = file.spec.fit
    assert spec is not None
    options: dict[str, Any] = spec.model_dump()
    for name in _TARGETS:
        if options[name] is not None:
            options[name] = function(options[name], file.where("fit", name))
    if options["evaluate"] is not None:
        options["evaluate"] = (getattr(work, options["evaluate"]), accuracy)
    if not write:
        options |= dict.fromkeys(_FILES)
        return fit(model, work.train, progress=progress, **options)
    passing = None if options["checkpoint"] else unfinished(file, work)
    options["checkpoint"] = options["checkpoint"] or str(passing)
    with telling(Path(options["checkpoint"]) / "manifest.json", "trained"):
        result = fit(model, work.train, progress=progress, **options)
    if passing is not None:
        shutil.rmtree(passing, ignore_errors=True)
    return result
