"""The ``torch.library`` ops of casts: what a graph holds where casts are to stay whole.

``dovetail::cast``, ``dovetail::cast_integers`` (with a given scale) and ``dovetail::cast_by_range``
(with the scales that the tensor's own values ask for); each ``..._masked`` also returns where the
straight-through gradient passes. The format travels as text. Gradients are not theirs: the masks
are for that. Seeds are int64 scalar tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_fake, register_vmap

from dovetail.formats import format as to_format
from dovetail.formats.base import Format
from dovetail.formats.realise import (
    Report,
    register_whole,
    round_by_range,
    round_integers,
    round_values,
)
from dovetail.kernels.batching import one_by_one

__all__: list[str] = []

_library = Library("dovetail", "FRAGMENT")

Cast = Callable[..., Tensor]


def _values(x: Tensor, fmt: Any, report: Report | None, axis: int, seed: Any, scale: Any) -> Tensor:
    return round_values(x, fmt, axis, seed, torch.empty_like(x), scale, report)


def _integers(
    x: Tensor, fmt: Any, report: Report | None, scale: Tensor, zero: Tensor, axis: Any, seed: Any
) -> Tensor:
    return round_integers(x, fmt, scale, zero, axis, torch.empty_like(x), report, seed)


def _ranged(
    x: Tensor, fmt: Any, report: Report | None, axis: Any, channel: Any, seed: Any
) -> Tensor:
    return round_by_range(x, fmt, axis, channel, torch.empty_like(x), report, seed)


def _fake(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _fake_masked(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)


def _define(name: str, kind: str, arguments: str, cast: Cast) -> None:
    def plain(x: Tensor, spelling: str, *rest: Any) -> Tensor:
        return cast(x, to_format(spelling), None, *rest)

    def masked(x: Tensor, spelling: str, *rest: Any) -> tuple[Tensor, Tensor]:
        *given, clip = rest
        report = Report(clip)
        y = cast(x, to_format(spelling), report, *given)
        assert report.inside is not None
        return y, torch.empty_like(x, dtype=torch.bool).copy_(report.inside)

    def whole(
        x: Tensor, fmt: Format, rest: tuple[Any, ...], out: Tensor | None, report: Report | None
    ) -> Tensor:
        ops = torch.ops.dovetail
        if report is None:
            y: Tensor = getattr(ops, name)(x, str(fmt), *rest)
        else:
            y, inside = getattr(ops, f"{name}_masked")(x, str(fmt), *rest, report.clip)
            report.fill(x, lambda _: inside)
        return y if out is None else out.copy_(y)

    given = f"Tensor x, str format, {arguments}"
    _library.define(f"{name}({given}) -> Tensor")
    _library.define(f"{name}_masked({given}, bool clip) -> (Tensor, Tensor)")
    for op, impl, fake in ((name, plain, _fake), (f"{name}_masked", masked, _fake_masked)):
        _library.impl(op, impl, "CompositeExplicitAutograd")
        register_fake(f"dovetail::{op}", fake, lib=_library)
    register_vmap(f"dovetail::{name}", one_by_one(name), lib=_library)
    register_whole(kind, whole)


_define("cast", "values", "int axis, Tensor? seed, Tensor? scale", _values)
_define(
    "cast_integers",
    "integers",
    "Tensor scale, Tensor zero_point, int? axis, Tensor? seed",
    _integers,
)
_define("cast_by_range", "ranged", "int? axis, int? channel, Tensor? seed", _ranged)
