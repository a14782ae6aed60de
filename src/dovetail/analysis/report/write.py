"""What a run leaves in its folder."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dovetail._files import write as write_files
from dovetail.analysis.report.contents import Contents, numbers_of
from dovetail.analysis.report.page import page

if TYPE_CHECKING:
    from dovetail.experiment.result import RunResult

__all__ = ["versions", "write"]


def write(folder: str | Path, result: RunResult, *, command: str) -> Path:
    """Write ``report.html``, ``report.json`` and ``recipe.yaml`` to ``folder``; gives its path.

    ``command`` is what was run, as one would type it. ``report.json`` holds ``result.to_dict()``
    with the command, the versions and the pictures of multipliers; ``recipe.yaml`` the experiment
    with every default spelt out. Files of an earlier run are replaced.
    """
    numbers = {"command": command, "versions": versions(), **numbers_of(result)}
    html = page(Contents(run=numbers, attribution=numbers.get("attribution")))
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False)
    write_files(
        {
            target / "report.json": text + "\n",
            target / "recipe.yaml": result.resolved,
            target / "report.html": html,
        }
    )
    return target


def versions() -> dict[str, str]:
    """What computed the numbers: dovetail, torch, NumPy and Python.

    >>> list(versions())
    ['dovetail', 'torch', 'numpy', 'python']
    """
    import dovetail

    return {
        "dovetail": dovetail.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
