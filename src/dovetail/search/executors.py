"""Where workers run: here, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from dovetail._optional import optional
from dovetail._threads import computing_with
from dovetail.errors import DovetailError, unknown
from dovetail.search.evaluator import Evaluator
from dovetail.search.journal import Journal
from dovetail.search.study import Watch, open_journal, work
from dovetail.search.task import Conduct, Task

__all__ = ["EXECUTORS", "Executor", "carry_out"]

_PAUSE = 0.2  # seconds between two looks at the workers
_GRACE = 15.0  # seconds for workers to end in, once they are asked to
_INTERRUPTED = 130


#: Has a number of workers carry out a task, and shows the records meanwhile.
Executor = Callable[[bytes, int, Callable[[], None]], None]


def carry_out(
    task: Task,
    conduct: Conduct,
    evaluator: Evaluator,
    journal: Journal,
    watch: Watch,
    *,
    workers: int = 1,
    executor: str = "processes",
) -> None:
    """Carry a search out: one worker of ``processes`` works here, with what is prepared already."""
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    if workers == 1 and executor == "processes":
        work(evaluator, conduct, journal, watch)
        return
    try:
        parcel = pickle.dumps((task, conduct))
    except Exception as error:
        raise DovetailError(
            f"this search cannot be sent to workers ({error}): let the model, the data and "
            "evaluate be defined at the top of a module, or take workers=1"
        ) from None
    EXECUTORS[executor](parcel, workers, lambda: watch(journal.records()))


def unpacked(parcel: bytes, salt: int, parent: int | None = None) -> None:
    """Be the worker that a parcel describes; it ends with its parent, if it has one."""
    task, conduct = pickle.loads(parcel)

    def watch(_: Any) -> None:
        if parent is not None and os.getppid() != parent:
            raise SystemExit(1)

    with computing_with(conduct.threads):
        evaluator = task.prepare()
        work(evaluator, conduct, open_journal(conduct, evaluator), watch, salt)


def _main(parcel: bytes, salt: int, parent: int, reply: Connection) -> None:
    """What a process does: work, and say why if it fails."""
    try:
        unpacked(parcel, salt, parent)
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    except DovetailError as error:
        reply.send((True, str(error)))
    except Exception:
        reply.send((False, traceback.format_exc()))


class _Process:
    """One worker in a process of its own."""

    def __init__(self, parcel: bytes, salt: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._reply, there = context.Pipe(duplex=False)
        self.salt = salt
        self.process = context.Process(
            target=_main, args=(parcel, salt, os.getpid(), there), daemon=True
        )
        self.process.start()
        there.close()

    def raise_failure(self) -> None:
        """If it said why it failed, pass that on."""
        with suppress(EOFError, OSError):
            if self._reply.poll():
                known, text = self._reply.recv()
                raise DovetailError(text) if known else RuntimeError(f"a worker failed:\n{text}")


def processes(parcel: bytes, workers: int, look: Callable[[], None]) -> None:
    """Processes of this machine. One that is killed is started again, its trial with it."""
    running = [_Process(parcel, salt) for salt in range(workers)]
    restarts = 3 * workers
    try:
        while running:
            time.sleep(_PAUSE)
            look()
            for worker in list(running):
                code = worker.process.exitcode
                worker.raise_failure()
                if code is None:
                    continue
                running.remove(worker)
                if code == _INTERRUPTED:
                    raise KeyboardInterrupt
                if code != 0:
                    restarts -= 1
                    if restarts < 0:
                        raise DovetailError(
                            f"workers were killed again and again (the last with code {code}): do "
                            "they need more memory than there is?"
                        )
                    running.append(_Process(parcel, worker.salt))
    finally:
        _end([worker.process for worker in running])


def _end(left: list[Any]) -> None:
    """Have processes put their trials back and end; those that do not are ended."""
    for process in left:
        if process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)
    limit = time.monotonic() + _GRACE
    for process in left:
        process.join(max(0.0, limit - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def ray(parcel: bytes, workers: int, look: Callable[[], None]) -> None:
    """Tasks of a Ray cluster, whose machines all see the study's folder."""
    library = optional("ray", extra="ray")
    if not library.is_initialized():
        library.init()
    remote = library.remote(unpacked)
    waiting = [remote.remote(parcel, salt) for salt in range(workers)]
    try:
        while waiting:
            done, waiting = library.wait(waiting, timeout=_PAUSE)
            library.get(done)
            look()
    except DovetailError as error:  # Ray puts its traceback around what the worker said
        raise DovetailError(str(getattr(error, "cause", error))) from None
    finally:
        for task in waiting:
            library.cancel(task)
        if waiting:
            library.wait(waiting, num_returns=len(waiting), timeout=_GRACE)


EXECUTORS: dict[str, Executor] = {"processes": processes, "ray": ray}
