"""`dv.export`: one call for every form that a network is handed on in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from dovetail._batches import mode
from dovetail.errors import DovetailError
from dovetail.interchange.registry import exporter_for, exporter_named
from dovetail.interchange.result import Exported

__all__ = ["export"]


def export(
    model: nn.Module,
    path: str | Path,
    example: Any,
    *,
    to: str | None = None,
    verify: bool = True,
    **options: Any,
) -> Exported:
    """Write ``model``, emulated or exact, to ``path`` in the form that ``to`` names.

    Without ``to`` the suffix of ``path`` names it: ``.onnx`` is an ONNX file of standard operators
    (option ``tolerance``), ``to="golden"`` a folder of vectors for testbenches (``vectors``,
    ``hexadecimal``); `dv.register_exporter` adds others. ``example`` is what `apply_` takes; its
    shapes are those of the file. The model is written in evaluation mode and left as it was.

    With ``verify`` what was written is executed again and compared with the emulation before it
    stands at ``path``: in an ONNX file each emulated operation, alone, must give the emulation's
    bits in onnxruntime, also for NaN, infinities and out-of-range values, and the whole network
    its outputs to ``tolerance``. Whatever cannot be written exactly is refused first, by the name
    of the layer, and nothing is left behind.

    >>> import tempfile, torch, dovetail as dv
    >>> model, x = nn.Sequential(nn.Linear(4, 2)), torch.ones(3, 4)
    >>> _ = dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dv.export(model, folder + "/vectors", x, to="golden", vectors=2).is_equal
    True
    """
    if not isinstance(model, nn.Module):
        raise DovetailError(f"a model is an nn.Module, not {type(model).__name__}")
    place = Path(path)
    exporter = exporter_for(str(place)) if to is None else exporter_named(to)
    exporter.check(options)
    if exporter.suffix is not None and place.suffix != exporter.suffix:
        raise DovetailError(
            f"'{place}': the exporter '{exporter.name}' writes files that end in {exporter.suffix}"
        )
    if not place.parent.is_dir():
        raise DovetailError(f"{place}: there is no folder '{place.parent}'")
    if exporter.suffix is not None and place.is_dir():
        raise DovetailError(f"{place} is a folder; name the file to write in it")
    with mode(model, training=False):
        return exporter.write(model, place, example, verify=verify, **options)
