"""Which workers of a study are alive: a file of each that its heartbeat changes."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

__all__ = ["Presence"]

BEAT = 2.0  # seconds between two beats
GRACE = 60.0  # seconds without a beat, after which a worker of another machine counts as dead


class Presence:
    """This worker's sign of life, and what it makes of the others'.

    A worker is a file in ``folder`` named after its machine and process, which holds a number that
    grows as long as it lives and is gone when it has ended. One of the same machine is dead as soon
    as its process is; one of another machine when its number has not grown for a while, by this
    machine's clock: the machines' clocks need not agree.
    """

    def __init__(self, folder: Path, grace: float = GRACE) -> None:
        self._folder, self._grace = folder, grace
        self.name = f"{_machine()}-{os.getpid()}-{_started(os.getpid())}"
        self._beats: dict[str, tuple[str, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Presence:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write(0)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        (self._folder / self.name).unlink(missing_ok=True)
        for path in self._folder.glob(f"{_machine()}-*"):
            if not self.is_alive(path.name):  # it was killed
                path.unlink(missing_ok=True)

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(BEAT):
            count += 1
            self._write(count)

    def _write(self, count: int) -> None:
        (self._folder / self.name).write_text(str(count), encoding="ascii")

    def others(self) -> int:
        """How many other workers are alive."""
        names = [path.name for path in self._folder.iterdir()]
        return sum(name != self.name and self.is_alive(name) for name in names)

    def is_alive(self, name: str) -> bool:
        """Whether the worker of this name still works, as far as can be told."""
        if name == self.name:
            return True
        try:
            count = (self._folder / name).read_text(encoding="ascii")
        except FileNotFoundError:
            return False
        machine, process, started = name.rsplit("-", 2)
        if machine == _machine() and os.name == "posix":
            return _runs(int(process)) and _started(int(process)) == int(started)
        before, since = self._beats.get(name, ("", 0.0))
        if count != before:
            self._beats[name] = (count, time.monotonic())
            return True
        return time.monotonic() - since < self._grace


def _machine() -> str:
    return socket.gethostname().replace(os.sep, "_")


def _runs(process: int) -> bool:
    try:
        with suppress(PermissionError):  # somebody else's: it is there
            os.kill(process, 0)
    except ProcessLookupError:
        return False
    return _status(process)[:1] != ["Z"]  # ended, though whoever started it has not looked yet


def _started(process: int) -> int:
    """When a process started, for numbers are given anew; 0 where that is not told."""
    status = _status(process)
    return int(status[19]) if len(status) > 19 else 0


def _status(process: int) -> list[str]:
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
