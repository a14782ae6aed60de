"""From a spelling to an :class:`Approximation`: ``dv.approximation("poly2(fp16)")``."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from dovetail._arguments import built, signature_text
from dovetail._plugins import load_plugins
from dovetail._spelling import parse_call
from dovetail.approximations.base import Approximation
from dovetail.approximations.integer import IBert
from dovetail.approximations.newton import IntegerRoot, Newton
from dovetail.approximations.norm import Norm
from dovetail.approximations.softmax import Softmax
from dovetail.approximations.units import Base2, Poly, Pwl, Table
from dovetail.errors import DovetailError, unknown
from dovetail.formats import Format
from dovetail.formats import format as to_format

if TYPE_CHECKING:
    from dovetail.approximations.fitting import Fitted

__all__ = ["approximation", "approximation_names", "approximations_known", "register_approximation"]

Factory = Callable[..., Approximation]

_factories: dict[str, Factory] = {
    **{f"poly{degree}": partial(Poly, degree) for degree in range(1, 9)},
    "pwl": Pwl,
    "table": Table,
    "base2": Base2,
    "newton": Newton,
    "isqrt": IntegerRoot,
    "ibert": IBert,
    "softmax": Softmax,
    "norm": Norm,
}


def register_approximation(name: str) -> Callable[[Factory], Factory]:
    """Decorator: make ``name(...)`` the spelling of an approximation.

    The factory gets the spelled arguments, each as its annotation says: ``int``, ``float``,
    ``str``, a ``Format`` or another ``Approximation``. It returns an :class:`Approximation`,
    usually an own frozen dataclass derived from :class:`Unary`, which says how it evaluates a
    function of float64 values.

    >>> @register_approximation("fine_example")
    ... def fine(segments: int = 64):
    ...     return Pwl(segments)
    >>> approximation("fine_example(32)")
    pwl(32)
    >>> unregister = _factories.pop("fine_example")
    """

    def add(factory: Factory) -> Factory:
        try:
            bare = parse_call(name) == (name, [], {})
        except DovetailError:
            bare = False
        if not bare or name == "exact":
            raise DovetailError(f"{name!r} cannot name an approximation; use letters and digits")
        if _factories.get(name, factory) is not factory:
            raise DovetailError(f"an approximation {name!r} exists already; choose another name")
        _factories[name] = factory
        approximation.cache_clear()
        return factory

    return add


@lru_cache(maxsize=1024)
def approximation(spelling: str | Approximation | Fitted) -> Approximation:
    """The approximation that ``spelling`` describes; one that is made already stays as it is.

    ``poly2(fp16)``, ``pwl(16)``, ``table(256, int8)``, ``newton(1)``, ``softmax(exp=poly2(fp16),
    clamp=-16)``, ``norm(rsqrt=newton(1), variance=moments)`` and so on; 'dovetail show functions'
    lists them all.

    >>> approximation("poly2(fp16)"), approximation("pwl(16, fixed(16, 12), domain=(-8, 8))")
    (poly2(fp16), pwl(16, fixed(16, 12), domain=(-8, 8)))
    >>> approximation("ploy2")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown approximation 'ploy2'; did you mean 'poly2'? ...
    """
    from dovetail.approximations.fitting import Fitted

    if isinstance(spelling, Approximation):
        return spelling
    if isinstance(spelling, Fitted):
        return spelling.approximation
    if not isinstance(spelling, str):
        raise DovetailError(f"an approximation is a text such as 'poly2(fp16)', not {spelling!r}")
    name, args, kwargs = parse_call(spelling)
    if name not in _factories:
        load_plugins()
    if name not in _factories:
        raise unknown("approximation", name, _factories)
    try:
        made = built(_factories[name], args, kwargs, _read)
    except DovetailError as error:
        if spelling in str(error):
            raise
        raise DovetailError(f"approximation '{spelling}': {error}") from None
    if not isinstance(made, Approximation):
        raise DovetailError(f"'{name}' made {made!r}, which is not an Approximation")
    return made


def approximation_names() -> list[str]:
    """Every name that a spelling may begin with, plugins included.

    >>> {"poly2", "pwl", "table", "softmax"} <= set(approximation_names())
    True
    """
    load_plugins()
    return sorted(_factories)


def approximations_known() -> dict[str, str]:
    """Every name with its parameters.

    >>> approximations_known()["newton"]
    'newton(steps=1, format=fp32, grad=exact)'
    """
    return {name: name + signature_text(_factories[name]) for name in approximation_names()}


def _read(name: str, value: Any, kind: Any) -> Any:
    """``value`` as a parameter of type ``kind`` takes it."""
    optional = kind in (Format | None, Approximation | None, tuple[float, float] | None)
    if optional and value is None:
        return None
    if kind in (Format, Format | None):
        return to_format(value)
    if kind in (Approximation, Approximation | None):
        return approximation(value)
    if kind == tuple[float, float] | None and not isinstance(value, tuple):
        raise DovetailError(f"{name}={value!r}: {name} is two numbers such as (-8, 8)")
    return value
