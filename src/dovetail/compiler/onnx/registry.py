"""Which function computes an operator: by domain, name and the opset that last changed it."""

from __future__ import annotations

import importlib
import inspect
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeVar

from dovetail.errors import DovetailError, unknown

__all__ = ["Operator", "find", "names", "operator"]

_F = TypeVar("_F", bound=Callable[..., Any])
_versions: dict[tuple[str, str], dict[int, Operator]] = {}


@dataclass(frozen=True)
class Operator:
    """One version of one operator.

    ``function`` takes the inputs by position (``None`` for one left out) and the attributes by
    their ONNX names; one that has a parameter ``node`` is given the calling module as well, one
    that has ``device`` where to make tensors that come from no input. It
    returns a tensor, a list (a sequence), or a tuple where there may be several outputs.

    ``static`` inputs are given as Python numbers and lists; ``fixed`` ones are never weights;
    ``weights`` are, even of one element; ``folds`` says whether constants may be computed ahead.
    """

    domain: str
    name: str
    since: int
    function: Callable[..., Any]
    static: tuple[int, ...] = ()
    fixed: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    folds: bool = True

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The attributes that the function takes."""
        try:
            kinds = inspect.signature(self.function).parameters.values()
        except ValueError:  # torch's own functions of single elements: they have no attributes
            return frozenset()
        return frozenset(p.name for p in kinds if p.kind is p.KEYWORD_ONLY)

    def input_name(self, slot: int) -> str:
        """What the function calls an input.

        >>> find("", "LayerNormalization", 17).input_name(1)
        'scale'
        """
        kinds = inspect.signature(self.function).parameters.values()
        names = [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD]
        return names[slot] if slot < len(names) else f"input{slot}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled by name: functions of torch are not always."""
        return (_version, (self.domain, self.name, self.since))


def operator(
    name: str,
    since: int = 1,
    *,
    domain: str = "",
    static: Iterable[int] = (),
    fixed: Iterable[int] = (),
    weights: Iterable[int] = (),
    folds: bool = True,
) -> Callable[[_F], _F]:
    """Register the decorated function as operator ``name`` from opset ``since`` of ``domain`` on.

    >>> @operator("Halve", domain="example")
    ... def halve(x, *, times=1):
    ...     return x / 2**times
    >>> find("example", "Halve", 7).parameters
    frozenset({'times'})
    """

    def register(function: _F) -> _F:
        entry = Operator(
            domain,
            name,
            since,
            function,
            tuple(static),
            (*fixed, *static),
            tuple(weights),
            folds,
        )
        _versions.setdefault((domain, name), {})[since] = entry
        return function

    return register


@cache
def _filled() -> dict[tuple[str, str], dict[int, Operator]]:
    """What is registered, ours too: its modules are imported when they are first needed."""
    importlib.import_module("dovetail.compiler.onnx.operators")
    return _versions


def _version(domain: str, name: str, since: int) -> Operator:
    return _filled()[domain, name][since]


def find(domain: str, name: str, opset: int) -> Operator:
    """The operator as opset number ``opset`` of its domain defines it.

    >>> find("", "Softmax", 11).since, find("", "Softmax", 17).since
    (1, 13)
    >>> find("", "Softmaxx", 17)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown operator 'Softmaxx'; did you mean 'Softmax'? ...
    """
    versions = _filled().get((domain, name))
    if versions is None:
        shown = f"{domain}::{name}" if domain else name
        raise unknown("operator", shown, names(domain) or names())
    known = sorted(versions)
    at = bisect_right(known, opset)
    if at == 0:
        raise DovetailError(
            f"operator '{name}' is supported from opset {known[0]} on, the model has {opset}"
        )
    return versions[known[at - 1]]


def names(domain: str = "") -> list[str]:
    """The operators of a domain that have a function.

    >>> "Conv" in names(), "StringConcat" in names()
    (True, False)
    """
    return sorted(name for of, name in _filled() if of == domain)
