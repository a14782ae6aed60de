"""From a spelling to a :class:`Sparsity`: ``dv.sparsity("2:4")``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dovetail._plugins import load_plugins
from dovetail._spelling import parse_call
from dovetail.errors import DovetailError, unknown
from dovetail.sparsity.chance import Bernoulli
from dovetail.sparsity.pattern import Pattern
from dovetail.sparsity.patterns import Blocks, Dense, NofM, TopK
from dovetail.sparsity.scores import Score, register_score
from dovetail.sparsity.shorthand import is_shorthand, parse_shorthand
from dovetail.sparsity.value import Sparsity

__all__ = ["pattern_names", "register_sparsity", "sparsity"]

Factory = Callable[..., Pattern]

_RATIO = re.compile(r"(\d+):(\d+)")
_factories: dict[str, Factory] = {
    "dense": Dense,
    "topk": TopK,
    "nm": NofM,
    "blocks": Blocks,
    "bernoulli": Bernoulli,
}
_FLAGS = ("fixed", "kept_scores")
_WORDS = ("score", "backward")


def register_sparsity(name: str) -> Callable[[Factory], Factory]:
    """Decorator: make ``name(...)`` a sparsity; the factory gets the arguments, returns a pattern.

    >>> @register_sparsity("half_example")
    ... def half() -> Pattern:
    ...     return TopK(0.5)
    >>> sparsity("half_example(fixed)")
    topk(0.5, fixed)
    >>> del _factories["half_example"]
    """

    def add(factory: Factory) -> Factory:
        if not name.isidentifier():
            raise DovetailError(f"{name!r} cannot name a sparsity; use letters and digits")
        if _factories.get(name, factory) is not factory:
            raise DovetailError(f"a sparsity {name!r} exists already; choose another name")
        _factories[name] = factory
        _parsed.cache_clear()
        return factory

    return add


def pattern_names() -> list[str]:
    """Every name that a sparsity's spelling can start with, besides ``n:m``.

    >>> pattern_names()[:3]
    ['dense', 'topk', 'nm']
    """
    load_plugins()
    return list(_factories)


def sparsity(spec: str | Sparsity | Pattern, *, score: str | Score | None = None) -> Sparsity:
    """The sparsity that ``spec`` names; a :class:`Sparsity` is returned as it is.

    ``n:m`` (n kept of every m along the weight's input axis; ``2:4(axis=0)`` along another),
    ``topk(0.5)``, ``topk(0.5, per_output)``, ``blocks(16, 4, 0.25)``, ``bernoulli(0.5, seed=1)``,
    ``dense``, or the d-Matrix shorthand (``TOPK{0.5}(U)``, ``BTOPK{4:8,-1}(U)``, ``BERN``); each
    takes ``score=``, ``backward=``, ``fixed`` and ``kept_scores`` (see :class:`Sparsity`).
    ``score`` may be given as a function of the weight, which is registered under its name.

    >>> sparsity("2:4"), sparsity("BTOPK{4:8,-1}(U)"), sparsity("nm(1, 4, fixed, score=wanda)")
    (2:4, 4:8(axis=-1), 1:4(fixed, score=wanda))
    >>> sparsity("topkk(0.5)")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown sparsity 'topkk'; did you mean 'topk'? Known: ...
    """
    if isinstance(spec, Pattern):
        spec = Sparsity(spec)
    elif isinstance(spec, str):
        spec = _parsed(spec)
    elif not isinstance(spec, Sparsity):
        raise DovetailError(f"a sparsity is a spelling such as '2:4', not {spec!r}")
    if score is None:
        return spec
    if not isinstance(score, str):
        score = _named(score)
    return replace(spec, score=score)


def _named(function: Score) -> str:
    name = getattr(function, "__name__", "")
    register_score(name)(function)
    return name


@lru_cache(maxsize=256)
def _parsed(text: str) -> Sparsity:
    if is_shorthand(text):
        return parse_shorthand(text)
    name, args, named = parse_call(text)
    flags = {word: True for word in args if word in _FLAGS}
    args = [value for value in args if value not in _FLAGS]
    words = {key: named.pop(key) for key in (*_WORDS, *_FLAGS) if key in named}
    if ratio := _RATIO.fullmatch(name):
        name, args = "nm", [int(ratio[1]), int(ratio[2]), *args]
    factory = _factories.get(name)
    if factory is None:
        load_plugins()
        factory = _factories.get(name)
    if factory is None:
        raise unknown("sparsity", name, (*_factories, "2:4", "TOPK{0.5}(U)"))
    pattern = _built(text, factory, args, named)
    for key in _WORDS:
        words[key] = str(words[key]) if key in words else getattr(Sparsity, key)
    try:
        return Sparsity(pattern, **words | flags)
    except DovetailError as error:
        raise DovetailError(f"sparsity '{text}': {error}") from None


def _built(text: str, factory: Factory, args: list[Any], named: dict[str, Any]) -> Pattern:
    """The factory called; a bare word is the flag of its name."""
    parameters = inspect.signature(factory).parameters
    flags = {word: True for word in args if isinstance(word, str) and word in parameters}
    args = [value for value in args if not (isinstance(value, str) and value in parameters)]
    for key in (*named, *(word for word in args if isinstance(word, str))):
        if key not in parameters:
            raise unknown(f"argument in '{text}':", key, (*parameters, *_WORDS, *_FLAGS))
    try:
        return factory(*args, **named | flags)
    except TypeError:
        taken = ", ".join(str(p).split(":")[0] for p in parameters.values())
        raise DovetailError(f"sparsity '{text}': it takes ({taken})") from None
    except DovetailError as error:
        raise DovetailError(f"sparsity '{text}': {error}") from None
