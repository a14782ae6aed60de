"""Whether Ctrl-C was pressed, also where its exception was lost on the way up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "NOTHING_KEPT", "interrupted", "listening"]

#: The exit code: 128 + SIGINT, as shells have it.
INTERRUPTED = 130
NOTHING_KEPT = "nothing was written; the same command starts again"

_signals: list[int] = []


def interrupted() -> bool:
    """Whether the signal came since :func:`listening` began.

    An extension module that is being loaded may drop ``KeyboardInterrupt``, or make another
    exception of it: torch does where NumPy is half imported.
    """
    return bool(_signals)


@contextmanager
def listening() -> Iterator[None]:
    """Within, the signal is noted before it raises ``KeyboardInterrupt`` as ever.

    >>> with listening():
    ...     interrupted()
    False
    """
    _signals.clear()
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ours = usual and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if _signals:
            # Python ends by the signal, with another exit code, if it interrupted source text that
            # was being executed, as dataclasses do; until source text is executed to its end.
            exec("")


def _note(number: int, frame: FrameType | None) -> None:
    _signals.append(number)
    signal.default_int_handler(number, frame)
