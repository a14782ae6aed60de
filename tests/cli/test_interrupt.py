"""Ctrl-C ends in one line, with exit code 130."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dovetail.cli.interrupt import resumable
from dovetail.cli.main import main
from dovetail.training.loop import Loop

SOURCE = Path(__file__).parents[2] / "src"
FILE = (
    "dovetail: 1\nmodel: {builtin: digits-cnn}\ndata: {builtin: digits}\nrules: [{input: int8}]\n"
)


@pytest.fixture(autouse=True)
def _pythons_own_handler():
    """What other tests start, such as torch's launcher of processes, may leave another."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (None, "error: interrupted; nothing was written; the same command starts again\n"),
        ("go on with X", "error: interrupted; go on with X\n"),
    ],
)
def test_one_line_says_how_to_go_on(tmp_path, monkeypatch, capsys, said, line) -> None:
    def stop(*_args: object, **_options: object) -> None:
        if said is None:
            raise KeyboardInterrupt
        with resumable("outer"), resumable(said):
            raise KeyboardInterrupt

    monkeypatch.setattr("dovetail.recipe.schema.load", stop)
    path = tmp_path / "digits.yaml"
    path.write_text(FILE)
    assert main(["plan", str(path)]) == 130
    assert capsys.readouterr() == ("", line)


def test_an_interruption_that_was_made_something_else_of(tmp_path, monkeypatch, capsys) -> None:
    """An extension module that is being loaded may drop the exception, and fail later."""

    def lose(*_args: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RecursionError("half a module")

    monkeypatch.setattr("dovetail.recipe.schema.load", lose)
    assert main(["plan", "digits.yaml"]) == 130
    assert capsys.readouterr() == ("", "error: interrupted; give the same command again\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr("dovetail.recipe.schema.load", lambda *_: [][0])
    with pytest.raises(IndexError):
        main(["plan", "digits.yaml"])


def test_while_commands_are_loaded(tmp_path) -> None:
    """Also where source text is executed, after which Python would end by the signal."""
    (tmp_path / "early.py").write_text(
        "import signal, sys\n"
        "import dovetail.cli.app\n"
        "from dovetail.cli.main import main\n"
        "stop = 'raise_signal(SIGINT)'\n"
        "dovetail.cli.app.run_command = lambda _: exec(stop, vars(signal))\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "early.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    said = "error: interrupted; nothing was written; the same command starts again\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)


def test_a_retraining_that_is_interrupted_goes_on(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "digits.yaml"
    path.write_text(
        FILE.replace("builtin: digits}", "builtin: digits, batch_size: 256}")
        + "fit: {epochs: 2}\nthreads: 1\n"
    )
    look = Loop._look
    looks: list[int] = []

    def stop(loop: Loop, epoch: int, *args: object) -> None:
        looks.append(epoch)
        if epoch == 2 and len(looks) == 3:
            raise KeyboardInterrupt
        look(loop, epoch, *args)

    monkeypatch.setattr(Loop, "_look", stop)
    out = tmp_path / "out"
    command = ["run", str(path), "--out", str(out), "--json"]
    assert main(command) == 130
    said = "error: interrupted; what is trained so far is kept: the same command goes on from there"
    assert capsys.readouterr() == ("", f"{said}\n")
    assert [p.name.startswith(".unfinished-") for p in out.iterdir()] == [True]
    assert main(command) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert looks == [0, 1, 2, 2]  # the first epoch was not trained again
    assert sorted(p.name for p in out.iterdir()) == ["recipe.yaml", "report.html", "report.json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == resumed
    assert looks == [0, 1, 2, 2, 0, 1, 2]


@pytest.mark.slow
def test_a_signal_ends_the_process_in_one_line(tmp_path) -> None:
    (tmp_path / "slow_model.py").write_text(
        "import time, pathlib\n"
        "def build():\n    pathlib.Path('started').touch()\n    time.sleep(600)\n"
    )
    path = tmp_path / "slow.yaml"
    path.write_text(FILE.replace("{builtin: digits-cnn}", "{python: 'slow_model:build'}"))
    command = [sys.executable, "-m", "dovetail", "plan", str(path)]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        while not (tmp_path / "started").exists() and running.poll() is None:
            time.sleep(0.1)
        os.kill(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == ""
    assert err == "error: interrupted; nothing was written; the same command starts again\n"


def test_colours_are_for_terminals_that_want_them(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["report", "no/such/folder"]) == 2
    assert "\x1b[31m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["report", "no/such/folder"]) == 2
    assert "31m" not in capsys.readouterr().err
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.delenv("NO_COLOR")
    assert main(["report", "no/such/folder"]) == 2
    assert "\x1b" not in capsys.readouterr().err
