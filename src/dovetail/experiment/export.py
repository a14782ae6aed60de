"""The network of an experiment file in other forms: what `dovetail export` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from dovetail._threads import computing_with
from dovetail.errors import DovetailError
from dovetail.experiment.exports import check_exports, exported
from dovetail.experiment.progress import Steps
from dovetail.experiment.recover import before_emulation, recover
from dovetail.experiment.retrain import check_options, retrain
from dovetail.experiment.run import emulated, resolve
from dovetail.experiment.subject import subject
from dovetail.interchange import Exported
from dovetail.recipe.schema import ExperimentFile, load
from dovetail.recipe.sections.export import ExportSpec

__all__ = ["export"]


def export(
    path: str | Path | Sequence[str | Path],
    *,
    overrides: Iterable[str] = (),
    to: str | None = None,
    out: str | Path | None = None,
    progress: bool = False,
) -> tuple[Exported, ...]:
    """Write the network of an experiment file as its `export` says, or as ``to`` does.

    It is the network of the last stage of `dovetail run`: under the rules, calibrated, recovered
    and retrained. `out`, or else `report` in the file, is the folder.

    >>> export("no-such-file.yaml")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: no file 'no-such-file.yaml'
    """
    file = resolve(load(path, overrides), out)
    wanted = _wanted(file, to)
    check_exports(file, wanted)
    steps = Steps(show=progress)
    with computing_with(file.spec.threads):
        with steps.step("reading model and data"):
            work = subject(file)
            check_options(work, file)
        before_emulation(file, work, steps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(file.spec.seed)
            model, _ = emulated(file, file.recipe, work, steps)
            recover(file, model, work, steps)
            if file.spec.fit is not None:
                retrain(model, work, file, progress=progress, write=False)
            return exported(file, wanted, model, work, steps)


def _wanted(file: ExperimentFile, to: str | None) -> Sequence[ExportSpec]:
    declared = file.spec.export
    if to is not None:
        return [each for each in declared if each.to == to] or [ExportSpec(to=to)]
    if not declared:
        raise DovetailError(
            f"{file.document.name}: the key 'export' is missing; give --to onnx, or a list such as "
            "export: [{to: onnx}, {to: golden, vectors: 32}]"
        )
    return declared
