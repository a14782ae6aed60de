"""The post-training recipes of an experiment file, carried out on its calibration batches."""

from __future__ import annotations

import inspect
import itertools

from torch import nn

from dovetail import recovery
from dovetail._batches import device_of, inputs_and_target
from dovetail.experiment.progress import Steps
from dovetail.experiment.subject import Subject
from dovetail.recipe.document import at
from dovetail.recipe.schema import ExperimentFile
from dovetail.recipe.sections.recover import BEFORE_EMULATION
from dovetail.recovery import Recovery

__all__ = ["before_emulation", "recover"]


def before_emulation(file: ExperimentFile, work: Subject, steps: Steps) -> None:
    """Those that change the model before the rules are applied to it."""
    for place, each in enumerate(file.spec.recover):
        if each.name in BEFORE_EMULATION:
            _carry_out(file, place, work.model, work, steps)


def recover(
    file: ExperimentFile, model: nn.Module, work: Subject, steps: Steps
) -> tuple[Recovery, ...]:
    """The others, in their order, on the emulated and calibrated model."""
    recipes = enumerate(file.spec.recover)
    places = [place for place, each in recipes if each.name not in BEFORE_EMULATION]
    return tuple(_carry_out(file, place, model, work, steps) for place in places)


def _carry_out(
    file: ExperimentFile, place: int, model: nn.Module, work: Subject, steps: Steps
) -> Recovery:
    """One recipe, for good."""
    each = file.spec.recover[place]
    device = device_of(model)
    batches = itertools.islice(work.calibration, file.spec.calibrate.batches)
    inputs = [inputs_and_target(batch, device)[0] for batch in batches]
    carry_out = getattr(recovery, each.name)
    options = dict(each.options)
    if "observer" in inspect.signature(carry_out).parameters:
        options["observer"] = file.spec.calibrate.observer
    with steps.step(f"recovering: {each.name}"), at(file.where("recover", place)):
        done: Recovery = carry_out(model, inputs, **options)
    return done.keep()
