"""The one exception type users meet, and the helper that makes its messages teach."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["DovetailError", "unknown"]

_SHOWN = 12  # names that a message lists: all, or the nearest of them


class DovetailError(ValueError):
    """Bad input, refused at the boundary: the message names the value and the nearest valid choice.

    >>> raise DovetailError("layer 'conv1': 9 is not a width")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: layer 'conv1': 9 is not a width
    """


def unknown(
    kind: str, given: str, choices: Iterable[str], usual: Iterable[str] = ()
) -> DovetailError:
    """The error for a name that is not one of ``choices``, with the nearest of them.

    Of several that begin with the name, one of the ``usual`` ones is preferred.

    >>> print(unknown("format", "int9x", ["int8", "int9", "uint8"]))
    unknown format 'int9x'; did you mean 'int9'? Known: int8, int9, uint8
    >>> print(unknown("op", "convolution", ["activation", "conv"]))
    unknown op 'convolution'; did you mean 'conv'? Known: activation, conv
    >>> print(unknown("format", "fp8", ["fp8_e3m4", "fp8_e4m3"], usual=["fp8_e4m3"]))
    unknown format 'fp8'; did you mean 'fp8_e4m3'? Known: fp8_e3m4, fp8_e4m3
    """
    given = given if isinstance(given, str) else repr(given)
    names = sorted(set(choices))
    starts = [name for name in names if len(name) > 2 and given.startswith(name)]
    begun = [name for name in names if len(given) > 2 and name.startswith(given)]
    preferred = set(usual)
    near = sorted(starts, key=len)[-1:]
    near = near or sorted(begun, key=lambda name: (name not in preferred, len(name)))[:1]
    near = near or difflib.get_close_matches(given, names, 1, 0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    shown = names
    if len(names) > _SHOWN:
        nearest = difflib.get_close_matches(given, names, _SHOWN, 0.35)
        others = [name for name in names if name not in nearest]
        shown = [*[*nearest, *others][:_SHOWN], f"... ({len(names)} in all)"]
    return DovetailError(f"unknown {kind} '{given}'{hint} Known: {', '.join(shown) or 'none'}")
