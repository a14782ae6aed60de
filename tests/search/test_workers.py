"""Several processes on one study: killed, taken up again, counted once; and Ray, as a stand-in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dovetail as dv
from dovetail.search.presence import Presence
from search_models import found, slow_figures

SLOW: dict[str, Any] = {"evaluate": slow_figures, "objectives": {"mine": "max", "energy": "min"}}


def workers_of(folder: Path) -> list[int]:
    """The processes that work on a study now, without this one."""
    names = (path.name for path in (folder / "workers").glob("*"))
    return [pid for name in names if (pid := int(name.rsplit("-", 2)[1])) != os.getpid()]


def kill_one(folder: Path, killed: list[int]) -> None:
    """Kill a worker in the middle of its second trial."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        journal = folder / "study.journal"
        if journal.exists() and journal.read_text().count('"values"') >= 1:
            pids = workers_of(folder)
            if pids:
                time.sleep(0.1)
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])
                return
        time.sleep(0.02)


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(tmp_path, killed))
    killer.start()
    front = found(**SLOW, workers=2, folder=tmp_path, strategy="exhaustive")
    killer.join()
    assert killed
    assert len(front.trials) == 9
    alone = found(**SLOW, strategy="exhaustive")
    assert {tuple(t.design.values()): t.values for t in front.trials} == {
        tuple(t.design.values()): t.values for t in alone.trials
    }
    assert not workers_of(tmp_path)


@pytest.mark.slow
def test_the_trial_of_a_dead_worker_is_taken_up_again(tmp_path: Path) -> None:
    script = (
        "import os, search_models as m\n"
        "def die(model): os.kill(os.getpid(), 9)\n"
        f"goals = {{'mine': 'max', 'energy': 'min'}}\n"
        f"m.found(evaluate=die, objectives=goals, folder={str(tmp_path)!r})"
    )
    paths = [str(Path(dv.__file__).parents[1]), str(Path(__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    front = found(**SLOW, folder=tmp_path, trials=2)
    assert front.dropped == 1
    assert [trial.number for trial in front.trials] == [1, 2]
    assert set(front.trials[0].design.values()) == {"exact"}


@pytest.mark.slow
def test_a_worker_that_dies_of_its_trial_does_not_die_for_ever(tmp_path: Path) -> None:
    with pytest.raises(dv.DovetailError, match=r"was cut off 3 times|killed again and again"):
        found(
            evaluate=dies,
            objectives={"mine": "max", "energy": "min"},
            workers=2,
            folder=tmp_path,
            trials=1,
        )


def dies(model: object) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


@pytest.mark.slow
def test_the_error_of_a_worker_is_told(tmp_path: Path) -> None:
    with pytest.raises(dv.DovetailError, match=r"trial 0 .*: no good"):
        found(evaluate=refuses, objectives={"mine": "max"}, workers=2, trials=1)


def refuses(model: object) -> float:
    raise dv.DovetailError("no good")


def test_what_cannot_be_sent_to_workers_is_refused() -> None:
    with pytest.raises(dv.DovetailError, match=r"cannot be sent to workers .*take workers=1"):
        found(evaluate=lambda model: 1.0, objectives={"mine": "max"}, workers=2)


def fake_ray(calls: list[str], **others: Any) -> Any:
    """As much of Ray as is used, in this process."""

    def remote(function: Any) -> Any:
        def run(*args: Any) -> Any:
            calls.append("remote")
            return function(*args)

        return SimpleNamespace(remote=run)

    usual: dict[str, Any] = {
        "is_initialized": lambda: False,
        "init": lambda: calls.append("init"),
        "remote": remote,
        "wait": lambda waiting, timeout: (waiting, []),
        "get": lambda done: done,
    }
    return SimpleNamespace(**usual | others)


def test_ray_runs_the_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    monkeypatch.setitem(sys.modules, "ray", fake_ray(calls))
    front = found(executor="ray", workers=2, folder=tmp_path, strategy="exhaustive")
    assert calls == ["init", "remote", "remote"]
    assert len(front.trials) == 9


def test_what_a_worker_of_ray_refuses_is_told_and_the_others_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wrapped(dv.DovetailError):
        cause = dv.DovetailError("no good")

    def get(done: Any) -> None:
        raise Wrapped("a traceback of many lines")

    calls: list[str] = []
    fake = fake_ray(
        calls,
        remote=lambda function: SimpleNamespace(remote=lambda parcel, salt: f"task {salt}"),
        wait=lambda waiting, timeout, num_returns=1: (waiting[:num_returns], waiting[num_returns:]),
        get=get,
        cancel=calls.append,
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(dv.DovetailError, match=r"^no good$"):
        found(executor="ray", workers=3)
    assert calls == ["init", "task 1", "task 2"]


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(dv.DovetailError, match=r'pip install "dovetail\[ray\]"'):
        found(executor="ray")


def test_workers_are_alive_as_long_as_they_beat(tmp_path: Path) -> None:
    with Presence(tmp_path, grace=0.05) as here:
        assert here.is_alive(here.name)
        (tmp_path / "elsewhere-1-0").write_text("1")
        assert here.is_alive("elsewhere-1-0")
        assert here.others() == 1
        time.sleep(0.1)
        assert not here.is_alive("elsewhere-1-0")
        (tmp_path / "elsewhere-1-0").write_text("2")
        assert here.is_alive("elsewhere-1-0")
        assert not here.is_alive("nobody-1-0")
        machine, pid, _ = here.name.rsplit("-", 2)
        reused = f"{machine}-{pid}-1"  # a process of the same number that started later
        (tmp_path / reused).write_text("0")
        assert not here.is_alive(reused)
    assert not (tmp_path / here.name).exists()
