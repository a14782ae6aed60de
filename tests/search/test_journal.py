"""A journal that several workers write: who may take which trial back, and when."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dovetail as dv
from dovetail.search import journal as module
from dovetail.search.journal import DONE, DROPPED, RUNNING, WAITING, Journal
from dovetail.search.objectives import Objectives
from dovetail.search.strategies import Anything
from dovetail.search.worker import Worker

CHOICES = [SimpleNamespace(label=label) for label in ("exact", "drum")]
GRID: Any = SimpleNamespace(
    axes=[SimpleNamespace(name="conv.mul", choices=CHOICES)],
    words=lambda design: {"conv.mul": CHOICES[design[0]].label},
)


def opened(folder: Path) -> Journal:
    return Journal(folder / "study.journal", GRID, Objectives({"energy": "min"}), {})


def values_of(journal: Journal) -> list[Any]:
    return [record.values for record in journal.records()]


def evaluated(journal: Journal, energy: float) -> None:
    claimed = journal.sample(Anything().sampler(0))
    assert claimed is not None
    assert journal.start(*claimed, "one")
    journal.finish(claimed[0], {"energy": energy})


def test_half_a_line_of_a_killed_writer_spoils_nothing_that_others_write(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    evaluated(one, 1.0)
    with (tmp_path / "study.journal").open("a") as file:
        file.write('{"op_code":4,"worker_id":"x')  # and then it was killed
    assert values_of(other) == [{"energy": 1.0}]
    evaluated(other, 2.0)
    evaluated(one, 3.0)
    expected = [{"energy": 1.0}, {"energy": 2.0}, {"energy": 3.0}]
    assert values_of(one) == values_of(other) == values_of(opened(tmp_path)) == expected


def test_a_line_that_is_none_is_told(tmp_path: Path) -> None:
    evaluated(opened(tmp_path), 1.0)
    path = tmp_path / "study.journal"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], lines[3][:20] + lines[3], *lines[4:], ""]))
    with pytest.raises(dv.DovetailError, match=r"study\.journal' is damaged: a line of it"):
        opened(tmp_path)


def test_a_full_disk_is_told_and_gone_on_after(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    journal = opened(tmp_path)
    evaluated(journal, 1.0)
    path = tmp_path / "study.journal"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, hard))
    try:
        with pytest.raises(dv.DovetailError, match=r"cannot be written .*goes on once it can"):
            evaluated(journal, 2.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not path.read_bytes().endswith(b"\n")
    evaluated(opened(tmp_path), 3.0)
    assert {"energy": 1.0} in values_of(opened(tmp_path))
    assert {"energy": 3.0} in values_of(opened(tmp_path))


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


def test_of_two_trials_with_one_design_the_later_gives_way(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    first, second = (journal.sample(Anything().sampler(0)) for journal in (one, other))
    assert first is not None
    assert second is not None
    assert first[1] == second[1]
    measured: list[Any] = []
    evaluator: Any = SimpleNamespace(grid=GRID, measure=measured.append)
    worker = Worker(
        other, evaluator, Anything(), trials=9, seed=0, name="other", is_alive=lambda name: True
    )
    thread = threading.Thread(target=worker._carry_out, args=(*second, False))
    thread.start()  # it must not begin before the first trial says what it evaluates
    assert one.start(*first, "one")
    thread.join()
    assert not measured
    assert [record.state for record in opened(tmp_path).records()] == [RUNNING, DROPPED]
    one.finish(first[0], {"energy": 1.0})
    third = other.sample(Anything().sampler(0))
    assert third is not None
    worker._carry_out(*third, False)
    last = opened(tmp_path).records()[-1]
    assert (last.state, last.same, measured) == (DONE, 0, [])


def test_what_a_trial_that_waits_will_evaluate_is_known(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.enqueue((1,))
    (record,) = opened(tmp_path).records()
    assert (record.state, record.design) == (WAITING, (1,))
