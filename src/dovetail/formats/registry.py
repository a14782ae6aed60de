"""From a spelling to a :class:`Format`: ``dv.format("int8(affine)")``."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from dovetail._arguments import built
from dovetail._eager import constant
from dovetail._numbers import is_whole
from dovetail._spelling import parse_call
from dovetail.errors import DovetailError, unknown
from dovetail.formats.base import ElementFormat, Format
from dovetail.formats.integer import IntFormat
from dovetail.formats.names.construct import CONSTRUCTORS, EXAMPLES, p3109_named
from dovetail.formats.observers import observer as make_observer
from dovetail.formats.rounding import NEAREST_EVEN, Rounding
from dovetail.formats.shorthand import aliases, is_shorthand, parse_shorthand

__all__ = ["format", "format_examples", "format_names", "known", "register_format"]

_factories: dict[str, Callable[..., Format]] = dict(CONSTRUCTORS)
#: What is meant most often by the beginning of a name.
_USUAL = ("fp8_e4m3", "mxfp8_e4m3")
_INT_NAME = re.compile(r"(u?)int(\d+)")


def register_format(name: str) -> Callable[[Callable[..., Format]], Callable[..., Format]]:
    """Decorator: make ``name(...)`` a format spelling. The factory gets the spelled arguments.

    >>> @register_format("byte")
    ... def byte(**arguments):
    ...     return IntFormat(8, signed=False, affine=True)
    >>> format("byte")
    uint8
    >>> unregister = _factories.pop("byte")
    """

    def add(factory: Callable[..., Format]) -> Callable[..., Format]:
        _factories[name] = factory
        _parsed.cache_clear()
        return factory

    return add


def format(spelling: str | Format) -> Format:  # noqa: A001 - the field's own word
    """The format that ``spelling`` names; a :class:`Format` is returned as it is.

    Names take arguments in parentheses (``mxfp4(block=16, mode=RCEIL)``); the d-Matrix shorthand
    and its aliases are read too (``BFP[8|8]{64}(SN)``).

    >>> format("int8"), format("int4(channel=1)"), format("uint8").qmin
    (int8, int4(channel=1), 0)
    >>> format("BFP[8|8]{64}(SN)"), format("fp8_e4m3(rounding=TowardZero)")
    (bfp(m=8, block=64), fp8_e4m3fn(rounding=TowardZero))
    >>> format("int9x")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown format 'int9x'; did you mean 'int9'? ...
    """
    if isinstance(spelling, Format):
        return spelling
    if not isinstance(spelling, str):
        raise DovetailError(f"a format is a spelling such as 'int8', not {spelling!r}")
    return _parsed(spelling)


@lru_cache(maxsize=1024)
def _parsed(spelling: str) -> Format:
    if is_shorthand(spelling):
        return parse_shorthand(spelling)
    name, args, kwargs = parse_call(spelling)
    if match := _INT_NAME.fullmatch(name):
        return _integer(spelling, match[1] == "", int(match[2]), args, kwargs)
    factory = _factories.get(name) or p3109_named(name)
    if factory is None:
        raise unknown("format", name, (*format_names(), *aliases(), "binary8p4se"), _USUAL)
    try:
        return built(factory, args, kwargs, _read)
    except DovetailError as error:
        if spelling in str(error):
            raise
        raise DovetailError(f"format '{spelling}': {error}") from None


def known(spelling: str | Format) -> Format:
    """:func:`format`, also where torch.compile and torch.export trace: there it is a constant.

    >>> known("int8")
    int8
    """
    if isinstance(spelling, Format):
        return spelling
    if not torch.compiler.is_compiling():
        return format(spelling)
    _note(spelling)
    found: Format = getattr(_noted, spelling)
    return found


class _Noted:
    """The formats that graphs refer to by their spelling, as attributes: a graph can see into an
    object that has a place of its own, and not into what a function called by the way returns."""


_noted = _Noted()


@constant
def _note(spelling: str) -> None:
    setattr(_noted, spelling, format(spelling))


def format_names() -> list[str]:
    """Every name :func:`format` knows; some need arguments (see `format_examples`).

    >>> {"int8", "mxfp4", "posit"} <= set(format_names())
    True
    """
    integers = [f"{prefix}int{bits}" for prefix in ("", "u") for bits in range(2, 17)]
    return integers + sorted(_factories)


def format_examples() -> list[str]:
    """A complete spelling for every name of :func:`format_names`.

    >>> "posit(8, 1)" in format_examples()
    True
    """
    return [EXAMPLES.get(name, name) for name in format_names()]


def _read(name: str, value: Any, kind: Any) -> Any:
    """``value`` as a parameter of type ``kind`` takes it."""
    if kind is Rounding:
        return Rounding.parse(value)
    if kind is ElementFormat:
        fmt = format(value)
        if not isinstance(fmt, ElementFormat):
            raise DovetailError(f"{name}={value} is no element format such as 'fp8_e4m3fn'")
        return fmt
    return value


_WORDS = ("affine", "symmetric", "full", "per_tensor", "dynamic", "po2")
_KEYS = ("channel", "group", "observer", "rounding")


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
    for key, meaning in (("channel", "an axis number"), ("group", "a number of values")):
        value = kwargs.get(key)
        if value is not None and not is_whole(value):
            raise DovetailError(f"'{spelling}': {key} is {meaning}, not {value!r}")
    observer = kwargs.get("observer")
    if observer is not None:
        make_observer(str(observer))  # refuses what is none
    return IntFormat(
        bits,
        signed,
        affine="affine" in words or (not signed and "symmetric" not in words),
        full="full" in words,
        per_tensor="per_tensor" in words,
        channel=kwargs.get("channel"),
        group=kwargs.get("group"),
        dynamic="dynamic" in words,
        po2="po2" in words,
        observer=None if observer is None else str(observer),
        rounding=Rounding.parse(kwargs.get("rounding", NEAREST_EVEN)),
    )
