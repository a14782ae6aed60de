"""Rotary position embedding: ``rotate_0`` turns the query, ``rotate_1`` the key.

Models have it as a bare function, ``apply_rotary_pos_emb``, which each file of models defines anew
and which no torch function stands for. So a class whose ``forward`` calls it gets, when emulated, a
``forward`` of the same code that finds ours under that name. Nobody else's globals change. What
decorates the ``forward`` is done so, too, as far as its parts are functions that hold each other.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from torch import Tensor

from dovetail.emulation.composites.base import Products, Unfused
from dovetail.emulation.mode import call_as_one
from dovetail.emulation.operators.base import OpCall

__all__ = ["ROTATE", "read", "rebound", "refresh", "turning"]

#: The key under which an entry's table has it.
ROTATE = "rotate"

_OPERANDS = ("q", "k", "cos", "sin")


def rebound(forward: Callable[..., Any]) -> Callable[..., Any]:
    """``forward``, with the rotary functions that it calls by name made visible to rules.

    Its other globals are those of this moment: see :func:`refresh`.

    >>> rebound(len) is len
    True
    """
    if not isinstance(forward, types.FunctionType):
        return forward
    inner = forward.__dict__.get("__wrapped__")
    if inner is not None:
        return _around(forward, inner, rebound(inner))
    if not _visible(forward):
        return forward
    made = _copied(forward, {}, forward.__closure__)
    refresh(made, forward)
    return made


def _around(forward: Any, inner: Any, turned: Any) -> Callable[..., Any]:
    """A decorator's function that calls another one inside; itself if it does not hold that."""
    cells = forward.__closure__ or ()
    if turned is inner or not any(_holds(cell, inner) for cell in cells):
        result: Callable[..., Any] = forward
        return result
    closure = tuple(types.CellType(turned) if _holds(cell, inner) else cell for cell in cells)
    made = _copied(forward, forward.__globals__, closure)
    made.__dict__.update(forward.__dict__, __wrapped__=turned)
    return made


def _holds(cell: types.CellType, value: Any) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:  # empty
        return False


def _copied(forward: types.FunctionType, given: dict[str, Any], closure: Any) -> types.FunctionType:
    name, defaults = forward.__name__, forward.__defaults__
    made = types.FunctionType(forward.__code__, given, name, defaults, closure)
    made.__kwdefaults__ = forward.__kwdefaults__
    made.__module__ = forward.__module__
    return made


def refresh(made: Callable[..., Any], forward: Callable[..., Any]) -> None:
    """Let ``made``, which :func:`rebound` made of ``forward``, see what the globals now are."""
    while made is not forward and "__wrapped__" in forward.__dict__:
        made, forward = made.__dict__["__wrapped__"], forward.__dict__["__wrapped__"]
    if made is not forward:
        seen = {**forward.__globals__, **_visible(forward)}
        # torch.compile reads the globals of a named module from that module, and ours are others.
        seen.pop("__name__", None)
        made.__globals__.update(seen)


def turning(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The ``forward`` of a module that is a rotary embedding, made visible to rules.

    >>> turning(lambda module, q, k, cos, sin: (q * cos, k * sin))(None, 1, 2, 3, 4)
    (3, 8)
    """

    def turned(module: Any, /, *args: Any, **kwargs: Any) -> Any:
        return _apply(functools.partial(forward, module), *args, **kwargs)

    return turned


def _visible(forward: Callable[..., Any]) -> dict[str, Any]:
    given = forward.__globals__
    names = [n for n in forward.__code__.co_names if "rotary" in n and n in given]
    named = {name: given[name] for name in names}
    return {name: functools.partial(_apply, f) for name, f in named.items() if _turns(f)}


def _turns(function: Any) -> bool:
    """Whether it takes a query, a key, and the cosines and sines of their positions."""
    if not inspect.isfunction(function):
        return False
    return tuple(inspect.signature(function).parameters)[:4] == _OPERANDS


def _apply(original: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return call_as_one(ROTATE, _call, original, *args, **kwargs)


def _call(original: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return original(*args, **kwargs)


def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Unfused | None:
    """``args`` are the model's function and its arguments."""
    original, *given = args
    named = {**dict(zip(_OPERANDS, given, strict=False)), **kwargs}
    rest = tuple(given[len(_OPERANDS) :])
    operands = [named.pop(name, None) for name in _OPERANDS]
    if not all(isinstance(t, Tensor) and t.is_floating_point() for t in operands):
        return None
    q, k, cos, sin = operands

    def turned(place: int) -> Callable[..., Tensor]:
        def function(input: Tensor, other: Tensor, other_1: Tensor) -> Tensor:
            # Of the two results that the model's function gives, one is asked for.
            result: Tensor = original(input, input, other, other_1, *rest, **named)[place]
            return result

        return function

    def run(products: Products) -> tuple[Tensor, Tensor]:
        one, two = (
            products.perform(
                i,
                OpCall(ROTATE, {"input": x, "other": cos, "other_1": sin}, turned(i)),
            )
            for i, x in enumerate((q, k))
        )
        return one, two

    return Unfused({ROTATE: 2}, run)
