"""The forms that an experiment's finished network is written in, in the report's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dovetail._batches import device_of, inputs_and_target
from dovetail.errors import DovetailError
from dovetail.experiment.progress import Steps
from dovetail.experiment.subject import Subject
from dovetail.interchange import Exported
from dovetail.interchange.export import export as write
from dovetail.interchange.registry import exporter_named
from dovetail.recipe.document import at
from dovetail.recipe.schema import ExperimentFile
from dovetail.recipe.sections.export import ExportSpec

__all__ = ["check_exports", "exported"]


def check_exports(file: ExperimentFile, wanted: Sequence[ExportSpec] | None = None) -> None:
    """Refuse exporters that there are not and options that they have not."""
    for each in file.spec.export if wanted is None else wanted:
        with at(_place(file, each)):
            exporter_named(each.to).check(each.given())


def _place(file: ExperimentFile, spec: ExportSpec) -> str:
    """Where a file asks for an export; its name alone, where the command line does."""
    declared = list(file.spec.export)
    return file.where("export", declared.index(spec)) if spec in declared else "--to"


def exported(
    file: ExperimentFile,
    wanted: Sequence[ExportSpec],
    model: nn.Module,
    work: Subject,
    steps: Steps,
) -> tuple[Exported, ...]:
    """Each form written to the report's folder."""
    folder = Path(str(file.spec.report))
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
    found = []
    for each in wanted:
        suffix = exporter_named(each.to).suffix
        name = Path(file.document.name).stem + suffix if suffix else each.to
        example = _samples(model, work, each.vectors or each.batch)
        with steps.step(f"exporting to {each.to}"), at(_place(file, each)):
            found.append(
                write(model, folder / name, example, to=each.to, verify=each.verify, **each.given())
            )
    return tuple(found)


def _samples(model: nn.Module, work: Subject, count: int | None) -> tuple[Any, ...]:
    """The inputs of the first test samples; the example, where no number is asked for."""
    if count is None:
        return work.example
    parts: list[tuple[Any, ...]] = []
    there = 0
    for batch in work.test:
        parts.append(inputs_and_target(batch, device_of(model))[0])
        there += len(parts[-1][0])
        if there >= count:
            break
    if there < count:
        raise DovetailError(f"{count} samples are asked for, and the test data has {there}")
    return tuple(
        torch.cat(column)[:count] if isinstance(column[0], Tensor) else column[0]
        for column in zip(*parts, strict=True)
    )
