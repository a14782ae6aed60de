"""``dv.approximations.fit``: a table, segments or a polynomial for a function, and its error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dovetail._spelling import spell_call
from dovetail.approximations.errors import MaxError, max_error
from dovetail.approximations.functions import function
from dovetail.approximations.pieces import Pieces
from dovetail.approximations.piecewise import Piecewise
from dovetail.approximations.registry import approximation
from dovetail.errors import DovetailError, unknown
from dovetail.formats import Format

__all__ = ["Fitted", "fit"]

#: What says how many pieces or powers each kind has, in words and in the spelling.
_KINDS = {"pwl": "segments", "table": "entries", "poly": "degree"}


@dataclass(frozen=True)
class Fitted:
    """A fitted function: the ``approximation`` for a rule, the numbers that the unit holds, errors.

    ``pieces.starts[i]`` is where a piece begins, ``pieces.coefficients[i][j]`` multiplies
    ``(t - start) ** j``, with ``interval`` as the range of t.
    """

    function: str
    approximation: Piecewise
    pieces: Pieces
    interval: tuple[float, float]
    max_error: MaxError


def fit(
    name: str,
    kind: str = "pwl",
    *,
    segments: int | None = None,
    entries: int | None = None,
    degree: int | None = None,
    domain: tuple[float, float] | None = None,
    format: str | Format | None = None,
    **options: Any,
) -> Fitted:
    """Fit ``pwl`` (``segments=``), ``table`` (``entries=``) or ``poly`` (``degree=``).

    Each piece has the smallest possible maximum error before its coefficients are rounded to
    ``format``; ``max_error`` counts that, and the rounding of every intermediate result, too.
    ``domain`` is what the pieces cover (default: the function's own). ``options`` are others of
    the spelling, such as ``spacing="curvature"``. The same arguments always give the same fit; a
    rule takes it as it is (``fn=``), or as ``repr(fitted.approximation)`` spells it.

    >>> gelu = fit("gelu", kind="pwl", segments=16, domain=(-8, 8), format="fixed(16,12)")
    >>> gelu.approximation, len(gelu.pieces.starts)
    (pwl(16, fixed(16, 12), domain=(-8, 8)), 16)
    >>> gelu.max_error
    0.0399, x from -8 to 8
    """
    known = function(name)
    if kind not in _KINDS:
        raise unknown("kind of fit", str(kind), _KINDS)
    counts = {"segments": segments, "entries": entries, "degree": degree}
    count = counts.pop(_KINDS[kind])
    for other, value in counts.items():
        if value is not None:
            raise DovetailError(f"a fit of kind '{kind}' has {_KINDS[kind]}, not {other}={value}")
    if count is None:
        raise DovetailError(f"a fit of kind '{kind}' needs {_KINDS[kind]}=, such as 16")
    given = {"format": None if format is None else str(format), "domain": domain, **options}
    words = {key: value for key, value in given.items() if value is not None}
    if kind == "poly":
        made = approximation(spell_call(f"poly{count}", **words))
    else:
        made = approximation(spell_call(kind, count, **words))
    assert isinstance(made, Piecewise)
    made.check_function(known)
    interval = made.reduction(known).interval
    return Fitted(name, made, made.pieces(known), interval, max_error(made, name))
