"""When a compiled module is compared with eager, and what reports say of it."""

from __future__ import annotations

from types import CodeType

from torch import nn

from dovetail.compiler.build.gpu import gpu
from dovetail.compiler.check import check, is_random
from dovetail.compiler.passed import Passed
from dovetail.compiler.variant import Variant
from dovetail.errors import unknown

__all__ = ["Comparison"]

_ALWAYS = "always"
_NOW, _RANDOM = "in this process", "no: it draws random numbers"


class Comparison:
    """Compares variants of ``source`` with it: never, ``"always"``, or once for all processes."""

    def __init__(self, source: nn.Module, wanted: bool | str, tolerance: float | None) -> None:
        if wanted not in (True, False, _ALWAYS):
            raise unknown("check", str(wanted), ("True", "False", _ALWAYS))
        self.source, self.wanted, self.tolerance = source, wanted, tolerance

    def now(self, made: Variant, gradients: bool) -> set[CodeType] | None:
        """Compare, if asked for; returns what code eager has run, None where nobody watched."""
        made.checked = self._out_of_question(made) or _NOW
        if made.checked != _NOW:
            return None
        ran = check(self.source, made, self.tolerance, gradients=gradients)
        if is_random(made.forward.program):
            made.checked = _RANDOM
        return ran

    def again(self, found: Variant) -> None:
        """Compare what was found on disk: outputs alone, and not even those where it was noted.

        Its gradients were compared when it was made.
        """
        found.checked = self._out_of_question(found)
        if not found.checked and is_random(found.forward.program):
            found.checked = _RANDOM
        if found.checked:
            return
        always = self.wanted == _ALWAYS
        date = None if always else Passed(self.source, found, self.tolerance).date
        if date is not None:
            found.checked = f"in an earlier process, {date}"
            return
        self.now(found, gradients=always and found.gradients)
        self.note(found)

    def note(self, made: Variant) -> None:
        """Note for other processes that ``made`` was compared, if it was."""
        if made.checked == _NOW:
            Passed(self.source, made, self.tolerance).note()

    def _out_of_question(self, made: Variant) -> str:
        """Why it cannot be compared, or is not to be."""
        if not self.wanted:
            return "no: check=False"
        if made.place.target != "cpu" and gpu().missing() is not None:
            return "no: there is no GPU here"
        return ""
