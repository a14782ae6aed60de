"""Calling what makes a value with the arguments that its spelling gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from dovetail.errors import DovetailError, unknown

__all__ = ["built", "signature_text"]

T = TypeVar("T")


def built(
    factory: Callable[..., T],
    args: list[Any],
    kwargs: dict[str, Any],
    read: Callable[[str, Any, Any], Any],
) -> T:
    """The factory called with the spelled arguments.

    A bare word that names a parameter of type ``bool`` sets it. Numbers, flags and words are
    checked against the parameters' types; then ``read(name, value, annotation)`` turns each value
    into what its parameter takes.

    >>> def half(width: int, even: bool = False): return width // 2, even
    >>> built(half, [8, "even"], {}, lambda name, value, kind: value)
    (4, True)
    >>> built(half, [], {"widht": 8}, lambda name, value, kind: value)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown argument 'widht'; did you mean 'width'? ...
    """
    parameters = _signature(factory).parameters
    flags = {name for name, p in parameters.items() if p.annotation is bool}
    kwargs = kwargs | {word: True for word in args if word in flags}
    args = [value for value in args if value not in flags or not isinstance(value, str)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in kwargs:
        if key not in parameters and not takes_any:
            raise unknown("argument", key, parameters)
    try:
        bound = _signature(factory).bind(*args, **kwargs)
    except TypeError as error:
        raise DovetailError(f"{error}; it takes {signature_text(factory)}") from None
    for name, value in bound.arguments.items():
        kind = parameters[name].annotation
        if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            bound.arguments[name] = tuple(_checked(name, item, kind, read) for item in value)
        elif parameters[name].kind is not inspect.Parameter.VAR_KEYWORD:
            if kind is bool and isinstance(value, str):
                raise unknown("argument", value, parameters)
            bound.arguments[name] = _checked(name, value, kind, read)
    return factory(*bound.args, **bound.kwargs)


def signature_text(factory: Callable[..., Any]) -> str:
    """The arguments of a factory, as a person writes them.

    >>> signature_text(lambda width, es=2: None)
    '(width, es=2)'
    """
    parts = []
    for name, p in _signature(factory).parameters.items():
        mark = "*" if p.kind is p.VAR_POSITIONAL else ""
        default = "" if p.default is p.empty else f"={p.default}"
        parts.append(mark + name + default)
    return f"({', '.join(parts)})"


def _signature(factory: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(factory, eval_str=True)
    except NameError:  # an annotation that only a type checker sees
        return inspect.signature(factory)


def _checked(name: str, value: Any, kind: Any, read: Callable[[str, Any, Any], Any]) -> Any:
    for allowed, what in _KINDS:
        if kind is allowed or kind == (allowed | None):
            accepted = (int, float) if allowed is float else allowed
            right = isinstance(value, accepted) and isinstance(value, bool) == (allowed is bool)
            if not right and not (value is None and kind != allowed):
                raise DovetailError(f"{name}={value!r}: {name} is {what}")
    return read(name, value, kind)


_KINDS: tuple[tuple[type, str], ...] = (
    (int, "a whole number"),
    (float, "a number"),
    (bool, "True or False"),
    (str, "a word"),
)
