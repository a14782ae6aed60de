"""A journal that several workers write: who may take which trial back, and when."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dovetail.search import journal as module
from dovetail.search.journal import DROPPED, RUNNING, Journal
from dovetail.search.objectives import Objectives
from dovetail.search.strategies import Anything

CHOICES = [SimpleNamespace(label=label) for label in ("exact", "drum")]
GRID: Any = SimpleNamespace(
    axes=[SimpleNamespace(name="conv.mul", choices=CHOICES)],
    words=lambda design: {"conv.mul": CHOICES[design[0]].label},
)


def opened(folder: Path) -> Journal:
    return Journal(folder / "study.journal", GRID, Objectives({"energy": "min"}), {})


def nobody(name: str) -> bool:
    return False


def test_a_trial_without_a_name_yet_is_left_to_who_drew_it(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    claimed = one.sample(Anything().sampler(0))
    assert claimed is not None
    other.reclaim(nobody)
    assert one.start(*claimed, "one")
    assert [record.state for record in other.records()] == [RUNNING]


def test_a_trial_that_nobody_names_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    claimed = one.sample(Anything().sampler(0))
    assert claimed is not None
    monkeypatch.setattr(module, "_NAMELESS", -1)
    other.reclaim(nobody)
    assert not one.start(*claimed, "one")
    assert [record.state for record in one.records()] == [DROPPED]
