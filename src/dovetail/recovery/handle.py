"""What a recipe returns: what it changed, for how much, and the way back."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from rich.console import Console
from rich.table import Table
from torch import nn

from dovetail.errors import DovetailError
from dovetail.recovery.journal import Journal

__all__ = ["Change", "Recovery", "Work"]


@dataclass(frozen=True)
class Change:
    """One operation that a recipe changed: how, and the recipe's objective before and after."""

    op: str
    what: str
    before: float | None = None
    after: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same by field name."""
        return asdict(self)


@dataclass(eq=False)
class _Mark:
    """A recipe's name on the modules that it changed; ``handle`` leads to who can undo it."""

    name: str
    handle: ReferenceType[Recovery] | None = None
    settled: bool = False

    @property
    def kept(self) -> bool:
        """Whether nobody can undo it any more: it was kept, or its handle was dropped."""
        return self.settled or (self.handle is not None and self.handle() is None)


#: Of every changed module the recipes that changed it, the latest last.
_marks: WeakKeyDictionary[nn.Module, list[_Mark]] = WeakKeyDictionary()


@dataclass(eq=False)
class Recovery:
    """A recipe that was carried out on a model.

    ``changes`` lists what it did to which operation; ``objective`` says in words what ``before``
    and ``after`` measure. :meth:`undo` puts every bit back; what was before is forgotten with the
    handle. Used as a context manager it undoes at the end, unless :meth:`keep` was called inside.
    """

    name: str
    objective: str
    changes: tuple[Change, ...]
    _journal: Journal = field(repr=False)
    _mark: _Mark = field(repr=False)

    def undo(self) -> None:
        """Every parameter, buffer and hidden tensor that the recipe changed as it was before.

        Refused while a later recipe that changed the same modules stands, and after :meth:`keep`.
        What :func:`dovetail.remove_` has taken out already stays out; while the model is emulated
        by another recipe, one of several perhaps, it is refused.
        """
        self._refuse_settled()
        if self._journal.is_elsewhere:
            raise DovetailError(
                f"{self.name} cannot be undone while the model computes by another recipe: "
                "dv.switch back to the one that it was carried out under, or dv.remove_ this one"
            )
        for module in self._journal.modules:
            last = _marks[module][-1]
            if last is not self._mark and last.kept:
                raise DovetailError(
                    f"{self.name} cannot be undone: {last.name} came after it and is kept"
                )
            if last is not self._mark:
                raise DovetailError(
                    f"{self.name} cannot be undone yet: undo {last.name}, which came after it, "
                    "first"
                )
        self._journal.put_back()
        for module in self._journal.modules:
            _marks[module].pop()
        self._settle("undone")

    def keep(self) -> Recovery:
        """Settle it: the model stays as the recipe made it, and what was before is forgotten."""
        self._refuse_settled()
        self._mark.settled = True
        self._settle("kept")
        return self

    @property
    def status(self) -> str:
        """``active``, ``undone`` or ``kept``."""
        return self._status

    def table(self, width: int = 100) -> str:
        """A table of the changes, ``width`` characters wide."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        measured = any(c.before is not None for c in self.changes)
        table.add_column("operation", overflow="fold")
        table.add_column("change", overflow="fold")
        for name in ("before", "after") if measured else ():
            table.add_column(name, justify="right")
        for change in self.changes:
            figures = [_figure(f) for f in (change.before, change.after)] if measured else []
            table.add_row(change.op, change.what, *figures)
        out = io.StringIO()
        console = Console(file=out, width=width, color_system=None)
        title = f"{self.name}: {self.objective}" if measured else self.name
        console.print(title, soft_wrap=True, markup=False, highlight=False)
        console.print(table)
        return out.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        changes = [change.to_dict() for change in self.changes]
        return {"recipe": self.name, "objective": self.objective, "changes": changes}

    def __str__(self) -> str:
        return self.table()

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __getitem__(self, op: str) -> Change:
        return next(change for change in self.changes if change.op == op)

    def __enter__(self) -> Recovery:
        self._refuse_settled()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._status == "active":
            self.undo()

    def __post_init__(self) -> None:
        self._status = "active"

    def _refuse_settled(self) -> None:
        if self._status != "active":
            raise DovetailError(f"{self.name} is {self._status} already")

    def _settle(self, status: str) -> None:
        self._status = status
        self._journal = Journal()


class Work:
    """A recipe at work: what it changes is saved in ``journal`` first, and noted by ``note``.

    After an exception inside, everything is as it was; else ``result`` is the recipe's handle.

    >>> layer = nn.Linear(2, 2)
    >>> with Work("zero", "largest weight") as work:
    ...     work.journal.save(layer, "weight")
    ...     _ = nn.init.zeros_(layer.weight)
    ...     work.note("fc", "set to zero", after=0.0)
    >>> work.result["fc"].after
    0.0
    >>> work.result.undo()
    """

    def __init__(self, name: str, objective: str) -> None:
        self.name, self.objective = name, objective
        self.journal = Journal()
        self.changes: list[Change] = []

    def note(
        self, op: str, what: str, before: float | None = None, after: float | None = None
    ) -> None:
        """What was done to one operation."""
        self.changes.append(Change(op, what, before, after))

    def __enter__(self) -> Work:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.journal.put_back()
            return
        mark = _Mark(self.name)
        for module in self.journal.modules:
            _marks.setdefault(module, []).append(mark)
        self.result = Recovery(self.name, self.objective, tuple(self.changes), self.journal, mark)
        mark.handle = ref(self.result)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
