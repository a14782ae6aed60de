"""From a spelling to an :class:`Accumulator`: ``dv.accumulator("int16(saturate)")``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from dovetail._spelling import parse_call, spell_call
from dovetail.accumulators.adders import ADDERS, AdderAccumulator, from_function, recall
from dovetail.accumulators.base import Accumulator
from dovetail.accumulators.floating import FloatAccumulator
from dovetail.accumulators.integer import OVERFLOW, WHEN, IntAccumulator
from dovetail.errors import DovetailError, unknown
from dovetail.formats import FloatFormat, Format
from dovetail.formats import format as to_format

__all__ = ["accumulator"]

_INTEGER = re.compile(r"int(\d+)")
_KEYS = ("overflow", "when", "order", "chunk", "bits", "low")
_NAMES = (*(f"int{bits}" for bits in (8, 16, 24, 32, 48, 64)), "fp32", "fp16", "bf16", *ADDERS)


def accumulator(
    spec: str | Format | Accumulator | Callable[[Any, Any], Any],
    *,
    overflow: str | None = None,
    when: str | None = None,
    order: str | None = None,
    chunk: int | None = None,
    bits: int | None = None,
    low: int | None = None,
) -> Accumulator:
    """The accumulator that ``spec`` spells; keywords say what the spelling leaves open.

    ``int8`` to ``int64`` wrap, or with ``overflow="saturate"`` clamp, at ``each`` step (the default
    of ``when``) or at the ``end``. A floating-point format rounds every sum. ``loa``, ``truncated``
    and ``eta`` (``bits=``, ``low=``) and any ``function(register, product)`` on int64 arrays
    (``bits=``) are approximate adders. ``chunk=n`` hands the register the wide sums of n products
    at a time; ``order`` is ``sequential``, ``tree`` or ``chunk(n)``, a register per n terms.
    :mod:`dovetail.accumulators.base` states all of it.

    >>> accumulator("int24(wrap)"), accumulator("int16", overflow="saturate", when="end")
    (int24, int16(saturate, end))
    >>> accumulator("fp16(each)"), accumulator("bf16(chunk=64)"), accumulator("fp16", order="tree")
    (fp16, bf16(chunk=64), fp16(order=tree))
    >>> accumulator("loa(bits=16, low=6)")
    loa(bits=16, low=6)
    >>> accumulator("int99")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: accumulator 'int99': 8 to 64 bits; nearest 'int64'
    """
    given = {"overflow": overflow, "when": when, "order": order, "chunk": chunk}
    given |= {"bits": bits, "low": low}
    options = {key: value for key, value in given.items() if value is not None}
    if isinstance(spec, Accumulator):
        if options:
            raise DovetailError(
                f"accumulator '{spec}' is complete: it takes no {', '.join(options)}"
            )
        return spec
    if isinstance(spec, str):
        return _spelled(spec, options)
    if isinstance(spec, Format):
        return _spelled(str(spec), options)
    if not callable(spec):
        raise DovetailError(f"an accumulator is a spelling such as 'int32', not {spec!r}")
    _only(options, ("bits", "order", "chunk"), "function")
    if bits is None:
        raise DovetailError("an adder works on a register: dv.accumulator(<callable>, bits=16)")
    return from_function(spec, bits, order or "sequential", chunk)


def _spelled(spec: str, options: dict[str, Any]) -> Accumulator:
    if "[" in spec:  # a d-Matrix shorthand, such as FP[1|5|10,15](FN)
        return _float(to_format(spec), options)
    name, args, kwargs = parse_call(spec)
    rest: list[Any] = []
    for word in args:
        if word in OVERFLOW or word in WHEN or word in ("sequential", "tree"):
            key = "overflow" if word in OVERFLOW else "when" if word in WHEN else "order"
            _set(options, key, word, spec)
        elif str(word).startswith("chunk("):
            raise DovetailError(
                f"'{spec}': write chunk=64 for wide sums of 64 products, or order=chunk(64) for a "
                "register per 64 products"
            )
        else:
            rest.append(word)
    others = {key: value for key, value in kwargs.items() if key not in _KEYS}
    for key in kwargs.keys() - others.keys():
        _set(options, key, kwargs[key], spec)
    if isinstance(options.get("order"), str):
        options["order"] = options["order"].replace(" ", "")
    if match := _INTEGER.fullmatch(name):
        _nothing_else(rest, others, spec, (*OVERFLOW, *WHEN, "tree"), _KEYS[:4])
        _only(options, _KEYS[:4], name)
        return IntAccumulator(int(match[1]), **options)
    if name in ADDERS or name == "function":
        return _adder(spec, name, rest, others, options)
    try:
        fmt = to_format(spell_call(name, *rest, **others))
    except DovetailError:
        if rest or others:
            raise
        raise unknown("accumulator", name, _NAMES) from None
    return _float(fmt, options)


def _float(fmt: Format, options: dict[str, Any]) -> Accumulator:
    _only(options, ("when", "order", "chunk"), str(fmt))
    if not isinstance(fmt, FloatFormat):
        raise DovetailError(
            f"an accumulator is an integer or a floating-point register, not '{fmt}'; the "
            "nearest is 'fp16'"
        )
    return FloatAccumulator(fmt, **options)


def _adder(
    spec: str, name: str, rest: list[Any], others: dict[str, Any], options: dict[str, Any]
) -> Accumulator:
    if name == "function" and len(rest) == 1:
        _nothing_else([], others, spec, (), ("bits", "order", "chunk"))
        bits = options.get("bits", 32)
        return recall(str(rest[0]), bits, options.get("order", "sequential"), options.get("chunk"))
    keys = ("bits", "low", "order", "chunk")
    _nothing_else(rest, others, spec, ("tree",), keys)
    _only(options, keys, name)
    for key, example in (("bits", 16), ("low", 6)):
        if not isinstance(options.get(key), int):
            raise DovetailError(f"'{spec}': {name} needs {key}=, such as {key}={example}")
    return AdderAccumulator(name, **options)


def _set(options: dict[str, Any], key: str, value: Any, spec: str) -> None:
    if options.get(key, value) != value:
        raise DovetailError(f"'{spec}': {key} is given twice, {options[key]} and {value}")
    options[key] = value


def _only(options: dict[str, Any], allowed: tuple[str, ...], name: str) -> None:
    for key in options:
        if key not in allowed:
            raise DovetailError(
                f"accumulator '{name}' has no {key}=; it takes {', '.join(allowed)}"
            )


def _nothing_else(
    rest: list[Any],
    others: dict[str, Any],
    spec: str,
    words: tuple[str, ...],
    keys: tuple[str, ...],
) -> None:
    for word in rest:
        raise unknown(f"argument in '{spec}':", str(word), (*words, *keys))
    for key in others:
        raise unknown(f"argument in '{spec}':", key, keys)
