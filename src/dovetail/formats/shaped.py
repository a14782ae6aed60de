"""A format applied to a tensor seen in another shape, with a part left as it is.

This is the pre-cast transform of the d-Matrix configuration (``shaping``, ``noquant_shortcut`` and
``format``): blocks may then run over axes that do not stand side by side in the tensor itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail._spelling import spell_call
from dovetail.errors import DovetailError, unknown
from dovetail.formats.base import Format
from dovetail.formats.registry import format as to_format
from dovetail.formats.registry import register_format

__all__ = ["Shaped"]

Numbers = tuple[int, ...]
_SHAPINGS = ("view", "permute", "flatten")


@dataclass(frozen=True, repr=False)
class Shaped(Format):
    """``inner``, cast on the tensor after ``shaping``; the shape is undone afterwards.

    ``shaping`` is a sequence of ``view`` (sizes), ``permute`` (axes) and ``flatten`` (first and
    last axis), as torch spells them. ``keep`` (axis, start, stop) is a slice of the shaped tensor
    that stays as it was; a tensor that has no such slice is refused. ``before`` is a format that
    the shaped tensor is cast to first.

    >>> fmt = to_format("shaped(int2(dynamic), permute=(1, 0), keep=(0, 0, 1))")
    >>> fmt.cast_with(torch.tensor([[0.3, 0.3], [2.0, 2.0]]), lambda x, inner: torch.round(x))
    tensor([[0.3000, 0.0000],
            [2.0000, 2.0000]])
    """

    inner: Format
    shaping: tuple[tuple[str, Numbers], ...] = ()
    keep: tuple[int, int, int] | None = None
    before: Format | None = None

    def __post_init__(self) -> None:
        for fmt in (self.inner, self.before):
            if fmt is not None and fmt.is_static:
                near = f"{fmt}"[:-1] + ", dynamic)" if "(" in f"{fmt}" else f"{fmt}(dynamic)"
                raise DovetailError(
                    f"'{fmt}' needs a calibrated range, which a shaped tensor has not; the nearest "
                    f"that works is '{near}'"
                )

    @property
    def bits(self) -> int:
        """Width of one stored element."""
        return self.inner.bits

    @property
    def bytes_per_element(self) -> float:
        """Average storage of one element in bytes."""
        return self.inner.bytes_per_element

    @property
    def spelling(self) -> str:
        words: dict[str, Any] = dict(self.shaping)
        if self.keep is not None:
            words["keep"] = self.keep
        before = "" if self.before is None else f", before={self.before}"
        rest = spell_call("", **words)[1:-1] if words else ""
        return f"shaped({self.inner}{', ' + rest if rest else ''}{before})"

    def cast_with(self, x: Tensor, cast: Callable[[Tensor, Format], Tensor]) -> Tensor:
        """``x`` shaped, cast by ``cast(shaped, format)``, the kept slice restored, shaped back."""
        undo: list[Callable[[Tensor], Tensor]] = []
        for name, numbers in self.shaping:
            x = _shape(x, name, numbers, undo)
        kept = None if self.keep is None else x[_slice(x, *self.keep)]
        y = x if self.before is None else cast(x, self.before)
        y = cast(y, self.inner)
        if kept is not None and self.keep is not None:
            y = torch.slice_scatter(y, kept, *self.keep)
        for step in reversed(undo):
            y = step(y)
        return y


def _shape(
    x: Tensor, name: str, numbers: Numbers, undo: list[Callable[[Tensor], Tensor]]
) -> Tensor:
    before = x.shape
    if name == "permute":
        back = sorted(range(len(numbers)), key=lambda i: numbers[i] % x.dim())
        undo.append(lambda y: y.permute(back))
    else:
        undo.append(lambda y: y.reshape(before))
    try:
        if name == "permute":
            return x.permute(numbers)
        return x.reshape(numbers) if name == "view" else x.flatten(*numbers)
    except (RuntimeError, IndexError) as error:
        raise DovetailError(f"{name}={numbers} does not fit {tuple(before)}: {error}") from None


def _slice(x: Tensor, axis: int, start: int, stop: int) -> tuple[slice, ...]:
    if not -x.dim() <= axis < x.dim():
        raise DovetailError(f"keep={axis, start, stop}: the shaped tensor has {x.dim()} axes")
    size = x.shape[axis]
    first, last = (at + size if at < 0 else at for at in (start, stop))
    if not 0 <= first <= last <= size:
        near = min(max(first, 0), size), min(max(last, 0), size)
        raise DovetailError(
            f"keep={axis, start, stop}: axis {axis} of the shaped tensor has {size} indices; the "
            f"nearest slice that it has is keep={(axis, min(near), max(near))}"
        )
    place = [slice(None)] * x.dim()
    place[axis] = slice(start, stop)
    return tuple(place)


@register_format("shaped")
def _shaped(inner: str, **arguments: Any) -> Format:
    before = arguments.pop("before", None)
    keep = arguments.pop("keep", None)
    if keep is not None and not (_are_numbers(keep) and len(keep) == 3):
        raise DovetailError(f"keep={keep!r}: an axis, a start and a stop, such as (1, 0, 8)")
    for name, numbers in arguments.items():
        if name not in _SHAPINGS:
            raise unknown("argument", name, (*_SHAPINGS, "keep", "before"))
        if not _are_numbers(numbers):
            raise DovetailError(f"{name}={numbers!r}: whole numbers in parentheses, as torch has")
        axes = range(len(numbers))
        if name == "permute" and sorted(n % len(axes) for n in numbers) != [*axes]:
            raise DovetailError(f"permute={numbers!r}: each axis once, such as {(*axes[::-1],)}")
    return Shaped(
        to_format(inner),
        tuple((name, tuple(numbers)) for name, numbers in arguments.items()),
        None if keep is None else (keep[0], keep[1], keep[2]),
        None if before is None else to_format(before),
    )


def _are_numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(item) is int for item in value)
