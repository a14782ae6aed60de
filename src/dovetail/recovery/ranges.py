"""The ranges of operations whose operands a recipe changed, found anew."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from dovetail.calibration.calibrate import gathering
from dovetail.formats.observers import observer as make_observer
from dovetail.recovery.batches import Batches, quiet
from dovetail.recovery.handle import Work
from dovetail.recovery.operations import Operation

__all__ = ["check_observer", "find_ranges"]


def check_observer(observer: str) -> None:
    """Refuse one that does not exist, before anything is changed."""
    make_observer(observer)


def find_ranges(
    work: Work,
    model: nn.Module,
    batches: Batches,
    changed: Iterable[Operation],
    observer: str,
) -> None:
    """Calibrate the static formats of the operations that were changed."""
    ranged = [op for op in changed if op.site is not None and op.site.buffers]
    if not ranged:
        return
    for op in ranged:
        work.journal.save(op.module)
    keys = {op.site.op.key for op in ranged if op.site is not None}
    with quiet(model), gathering(model, observer, keys):
        for batch in batches.over(f"{work.name}: ranges"):
            model(*batch.args, **batch.kwargs)
