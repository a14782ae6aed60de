"""The operands that the layers of an experiment multiply: what multipliers are judged under."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from dovetail.analysis import operand_counts
from dovetail.analysis.operands import OperandCounts
from dovetail.calibration.batches import calibrate_on
from dovetail.emulation import apply_
from dovetail.errors import DovetailError
from dovetail.experiment.subject import subject
from dovetail.recipe.schema import load

__all__ = ["captured"]


def captured(source: str | Path, layer: str = "*") -> OperandCounts:
    """The operand pairs of the products of some layers, added up.

    ``source`` is the folder of a finished run or an experiment file (the model is emulated and
    calibrated as the file says, before recovery and retraining, and its operands are counted on one
    batch), or a ``.npz`` that `OperandCounts.save` wrote. ``layer`` selects operations by a glob on
    their names.

    >>> captured("no-such.npz")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: no file 'no-such.npz'
    """
    path = Path(source)
    if path.suffix == ".npz":
        return OperandCounts.load(path)
    if path.is_dir() and not (path / "recipe.yaml").is_file():
        raise DovetailError(f"'{path}' holds no recipe.yaml; give the folder that a run wrote")
    file = load(path / "recipe.yaml" if path.is_dir() else path)
    work = subject(file)
    apply_(work.model, file.recipe, work.example)
    how = file.spec.calibrate
    calibrate_on(work.model, work.calibration, how.batches, how.observer, file.spec.seed)
    counts = operand_counts(work.model, work.example)
    chosen = {key: found for key, found in counts.items() if fnmatchcase(key, layer)}
    if not chosen:
        raise DovetailError(f"no layer '{layer}' multiplies codes; those are {', '.join(counts)}")
    widths = {len(found.first): key for key, found in chosen.items()}
    if len(widths) > 1:
        raise DovetailError(
            f"the layers {' and '.join(widths.values())} multiply operands of different widths: "
            f"pick some of one, such as --layer {next(iter(widths.values()))}"
        )
    first, *rest = chosen.values()
    for found in rest:
        first = first + found
    return first
