"""From a spelling to a :class:`Format`: ``dv.format("int8(affine)")``."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from dovetail._spelling import parse_call
from dovetail.errors import DovetailError, unknown
from dovetail.formats.base import Format
from dovetail.formats.integer import IntFormat

__all__ = ["format", "format_names", "register_format"]

_factories: dict[str, Callable[..., Format]] = {}
_INT_NAME = re.compile(r"(u?)int(\d+)")


def register_format(name: str) -> Callable[[Callable[..., Format]], Callable[..., Format]]:
    """Decorator: make ``name(...)`` a format spelling. The factory gets the spelled arguments.

    >>> @register_format("byte")
    ... def byte(**arguments):
    ...     return IntFormat(8, signed=False, affine=True)
    >>> format("byte")
    uint8
    """

    def add(factory: Callable[..., Format]) -> Callable[..., Format]:
        _factories[name] = factory
        format.cache_clear()
        return factory

    return add


@lru_cache(maxsize=1024)
def format(spelling: str | Format) -> Format:  # noqa: A001 - the field's own word
    """The format that ``spelling`` names; a :class:`Format` is returned as it is.

    >>> format("int8"), format("int4(channel=1)"), format("uint8").qmin
    (int8, int4(channel=1), 0)
    >>> format("int9x")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown format 'int9x'; did you mean 'int9'? ...
    """
    if isinstance(spelling, Format):
        return spelling
    if not isinstance(spelling, str):
        raise DovetailError(f"a format is a spelling such as 'int8', not {spelling!r}")
    name, args, kwargs = parse_call(spelling)
    if match := _INT_NAME.fullmatch(name):
        return _integer(spelling, match[1] == "", int(match[2]), args, kwargs)
    if name not in _factories:
        raise unknown("format", name, format_names())
    try:
        return _factories[name](*args, **kwargs)
    except TypeError as error:
        raise DovetailError(f"format '{spelling}': {error}") from None


def format_names() -> list[str]:
    """Every name :func:`format` knows.

    >>> "int8" in format_names()
    True
    """
    integers = [f"{prefix}int{bits}" for prefix in ("", "u") for bits in range(2, 17)]
    return integers + sorted(_factories)


_WORDS = ("affine", "symmetric", "full", "per_tensor", "dynamic", "po2")
_KEYS = ("channel", "observer")


def _integer(
    spelling: str, signed: bool, bits: int, args: list[Any], kwargs: dict[str, Any]
) -> IntFormat:
    for word in args:
        if word not in _WORDS:
            raise unknown(f"argument in '{spelling}':", str(word), (*_WORDS, *_KEYS))
    for key in kwargs:
        if key not in _KEYS:
            raise unknown(f"argument in '{spelling}':", key, (*_WORDS, *_KEYS))
    words = set(args)
    if {"affine", "symmetric"} <= words:
        raise DovetailError(f"'{spelling}': affine and symmetric exclude each other")
    channel = kwargs.get("channel")
    if channel is not None and (not isinstance(channel, int) or isinstance(channel, bool)):
        raise DovetailError(f"'{spelling}': channel is an axis number, not {channel!r}")
    observer = kwargs.get("observer")
    return IntFormat(
        bits,
        signed,
        affine="affine" in words or (not signed and "symmetric" not in words),
        full="full" in words,
        per_tensor="per_tensor" in words,
        channel=channel,
        dynamic="dynamic" in words,
        po2="po2" in words,
        observer=None if observer is None else str(observer),
    )
