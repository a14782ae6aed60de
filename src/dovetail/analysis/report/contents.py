"""What a report is made of: plain values, from a result or read back from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.analysis.figures import Design
from dovetail.analysis.heatmap import heat_map
from dovetail.analysis.layers import shown
from dovetail.errors import DovetailError
from dovetail.multipliers import Multiplier

if TYPE_CHECKING:
    from dovetail.experiment.result import RunResult

__all__ = ["Contents", "Search", "numbers_of", "read"]


@dataclass(frozen=True)
class Search:
    """The designs of a search, and what each objective asks for, ``max`` or ``min``."""

    designs: Sequence[Design]
    directions: Mapping[str, str]

    @classmethod
    def of(cls, front: Mapping[str, Any]) -> Search:
        """From what ``Front.to_dict()`` of a search gives."""
        points = set(front["front"])
        designs = [
            Design(
                trial["trial"],
                {name: float(value) for name, value in trial["values"].items()},
                trial["design"],
                trial["trial"] in points,
                trial["feasible"],
            )
            for trial in front["trials"]
        ]
        return cls(designs, front["objectives"])


@dataclass(frozen=True)
class Contents:
    """Each part is there or is not: ``run`` as in ``report.json``, ``attribution`` as
    :meth:`dovetail.analysis.Attribution.to_dict` gives it.
    """

    run: Mapping[str, Any] | None = None
    attribution: Mapping[str, Any] | None = None
    search: Search | None = None


def numbers_of(result: RunResult) -> dict[str, Any]:
    """``result.to_dict()`` with what is shown of the multipliers besides their numbers."""
    pictures: dict[str, dict[str, Any]] = {}
    for spelling, mul in result.multipliers.items():
        pictures[spelling] = {"name": shown(mul)}
        if isinstance(mul, Multiplier) and mul.errors().wce:
            picture = heat_map(mul)
            pictures[spelling] |= {
                "data": picture.data_uri(),
                "limit": picture.limit,
                "inputs": list(picture.inputs),
                "weights": list(picture.weights),
                "sampled": picture.sampled,
            }
    return {**result.to_dict(), "pictures": pictures}


def read(folder: str | Path) -> Contents:
    """The parts in ``folder``: of ``report.json``, ``attribution.json`` and ``search.json``.

    Without the second an attribution that the run itself made counts.

    >>> read("no/such/folder")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: 'no/such/folder' holds no report.json, attribution.json ...
    """
    place = Path(folder)
    parts: dict[str, Any] = {
        name: _mapping(place / file) for name, file in _FILES.items() if (place / file).is_file()
    }
    if not parts:
        raise DovetailError(
            f"'{folder}' holds no {', '.join(_FILES.values())}; give the folder that a run wrote"
        )
    if "attribution" in parts.get("run", {}):
        parts.setdefault("attribution", parts["run"]["attribution"])
    if "search" in parts:
        parts["search"] = Search.of(parts["search"])
    contents = Contents(**parts)
    _same_network(contents, place)
    return contents


_FILES = {"run": "report.json", "attribution": "attribution.json", "search": "search.json"}


def _mapping(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DovetailError(f"'{path}' cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise DovetailError(f"'{path}' is no file of dovetail's: it should hold a mapping")
    return value


def _same_network(contents: Contents, place: Path) -> None:
    """A page must not join the numbers of two networks."""
    run, found = contents.run, contents.attribution
    if run is None or found is None:
        return
    both = f"'{place / _FILES['attribution']}' and '{place / _FILES['run']}'"
    known = {op["op"] for op in run["plan"]["ops"]}
    for row in found["rows"]:
        if row["op"] not in known:
            raise DovetailError(
                f"{both} are of two experiments: the first speaks of '{row['op']}', which the "
                "second has not"
            )
    measured = [stage["accuracy"] for stage in run["stages"]]
    if found["metric"] != "accuracy" or found["samples"] != measured[0]["n"]:
        return  # of other samples: nothing to compare
    for name in ("exact_metric", "emulated_metric"):
        if found[name] not in [accuracy["value"] for accuracy in measured]:
            raise DovetailError(
                f"{both} are of two experiments: the first has the accuracy {found[name]:.4g}, "
                "which no stage of the second has"
            )
