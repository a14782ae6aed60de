"""Run a finished experiment again and compare: `dovetail run --check FOLDER`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dovetail.errors import DovetailError
from dovetail.experiment.run import run

__all__ = ["check", "differences"]

#: What says where the numbers came from, or draws them, and may differ when they do not.
_ORIGIN = frozenset(
    {"command", "versions", "source", "experiment", "rule", "from", "pictures", "exports"}
)


def check(folder: str | Path, *, progress: bool = False) -> list[str]:
    """Run `recipe.yaml` of a report's folder again; what differs from its `report.json`.

    Every number must be the same to the last bit. Nothing is written.

    >>> check("no/such/folder")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: 'no/such/folder' holds no report.json that can be read; ...
    """
    folder = Path(folder)
    try:
        before = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DovetailError(
            f"'{folder}' holds no report.json that can be read; give the folder that a run wrote"
        ) from None
    if not isinstance(before, dict):
        raise DovetailError(f"'{folder / 'report.json'}' is no report of a run")
    again = run(
        folder / "recipe.yaml",
        from_scratch=before.get("trained_here") is True,
        write=False,
        progress=progress,
    )
    return list(differences(before, json.loads(json.dumps(again.to_dict()))))


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """One sentence for each value that is not the same.

    >>> list(differences({"a": [1, 2], "rule": "x:1"}, {"a": [1, 3], "rule": "y:2"}))
    ['a.1: was 2, is 3']
    """
    inside = f"{path}." if path else ""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            if key not in _ORIGIN:
                yield from differences(before.get(key), after.get(key), f"{inside}{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{inside}{index}")
    elif before != after:
        yield f"{path}: was {before}, is {after}"
