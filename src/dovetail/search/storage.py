"""The file behind a journal: whole lines only, whoever was cut off in the middle of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dovetail._optional import optional
from dovetail.errors import DovetailError

__all__ = ["storage"]

_LOCK_GRACE = 10  # seconds after which the lock of a writer that was killed is broken


def storage(path: Path) -> Any:
    """Optuna's storage of a journal file."""
    return optional("optuna.storages", extra="search").JournalStorage(_Backend(path))


class _Backend:
    """Optuna's journal file; what goes wrong with it is told in words."""

    def __init__(self, path: Path) -> None:
        files = optional("optuna.storages.journal", extra="search")
        place = str(path.resolve())
        lock = files.JournalFileOpenLock(place, grace_period=_LOCK_GRACE)
        self._path = path
        self._file = files.JournalFileBackend(place, lock_obj=_Lock(lock, path))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        try:
            yield from self._file.read_logs(log_number_from)
        except ValueError as error:
            raise DovetailError(
                f"'{self._path}' is damaged: a line of it is no entry of a journal ({error}). Take "
                "that line away to go on with what the others hold, or delete the folder"
            ) from None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            self._file.append_logs(logs)
        except OSError as error:
            raise DovetailError(
                f"'{self._path}' cannot be written ({error.strerror}): what it holds stays, and "
                "the same search goes on once it can"
            ) from None


class _Lock:
    """A lock whose holder finds whole lines: what a writer did not finish is taken away."""

    def __init__(self, lock: Any, path: Path) -> None:
        self._lock, self._path = lock, path

    def acquire(self) -> bool:
        self._lock.acquire()
        try:
            _mend(self._path)
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        with suppress(RuntimeError):  # we were so slow that another has broken it
            self._lock.release()


def _mend(path: Path) -> None:
    with path.open("rb+") as file:
        if file.seek(0, 2) == 0:
            return
        file.seek(-1, 2)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
