"""The program `dovetail`: Ctrl-C finds it ready from its first moment, before all is loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dovetail.cli.signals import INTERRUPTED, NOTHING_KEPT, interrupted, listening

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done; 1: a condition was missed, or a check found a difference; 2: refused, the
    reason is on standard error; 130: interrupted, the line on standard error says how to go on.
    `DOVETAIL_TRACEBACK=1` lets a refusal's traceback through.
    """
    with listening():
        try:
            from dovetail.cli.app import run_command

            return run_command(arguments)
        except KeyboardInterrupt:
            pass
        except Exception:
            if not interrupted():
                raise
    sys.stderr.write(f"error: interrupted; {NOTHING_KEPT}\n")
    return INTERRUPTED
