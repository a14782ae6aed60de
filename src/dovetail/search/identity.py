"""What the trials of one study have in common, and the refusal of a journal of another study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dovetail._digest import digest
from dovetail.errors import DovetailError
from dovetail.recipe.schema import spell_rules
from dovetail.search.evaluator import Evaluator

__all__ = ["identity", "refuse_another"]

_MOST_SHOWN = 3


def identity(evaluator: Evaluator) -> dict[str, Any]:
    """All that figures depend on besides the design, as plain values."""
    from dovetail import __version__

    grid, objectives = evaluator.grid, evaluator.objectives
    rules = grid.base.rules
    found = {
        "version of dovetail": __version__,
        "space": {axis.name: [choice.label for choice in axis.choices] for axis in grid.axes},
        "distinct": dict(grid.space.distinct),
        "objectives": dict(objectives.directions),
        "constraints": dict(objectives.bounds),
        "recipe": spell_rules(rules) if rules else "",
        "model": _digest(evaluator),
        "seed": evaluator.seed,
        **evaluator.settings,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _digest(evaluator: Evaluator) -> str:
    model = evaluator.grid.model
    return f"{type(model).__name__} {digest(model.state_dict().items())[:16]}"


def refuse_another(known: Mapping[str, Any], wanted: Mapping[str, Any], path: Path | None) -> None:
    """Refuse a journal whose study is another one than is ``wanted``.

    >>> refuse_another({"seed": 0}, {"seed": 1}, Path("study.journal"))
    Traceback (most recent call last):
    dovetail.errors.DovetailError: 'study.journal' holds a study of another seed: 0, not 1; ...
    """
    for key, value in wanted.items():
        if known.get(key) != value:
            raise DovetailError(
                f"'{path}' holds a study of another {key}: {_difference(known.get(key), value)}; "
                "give this search a folder of its own, or delete that one"
            )


def _difference(known: Any, wanted: Any) -> str:
    if not isinstance(known, Mapping) or not isinstance(wanted, Mapping):
        return f"{known}, not {wanted}"
    other = [key for key in (*known, *wanted) if known.get(key) != wanted.get(key)]
    names = list(dict.fromkeys(other))
    told = [f"{name} {known.get(name)}, not {wanted.get(name)}" for name in names[:_MOST_SHOWN]]
    more = [f"{len(names) - _MOST_SHOWN} more"] if len(names) > _MOST_SHOWN else []
    return "; ".join([*told, *more])
