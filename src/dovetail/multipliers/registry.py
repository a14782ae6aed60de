"""`multiplier`, the one way from a name, a table, a file or a function to a `Multiplier`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np
import torch

from dovetail._plugins import load_plugins
from dovetail._spelling import parse_call, spell_call
from dovetail.errors import DovetailError, unknown
from dovetail.formats import Format
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.catalog import find_circuit, nearest_circuits
from dovetail.multipliers.error_tolerant import etm
from dovetail.multipliers.exact import exact
from dovetail.multipliers.families import broken_array, drum, mitchell, truncate
from dovetail.multipliers.family import Family, described
from dovetail.multipliers.files import SUFFIXES, from_file
from dovetail.multipliers.floating import NAME as FLOAT_NAME
from dovetail.multipliers.floating import FloatMultiplier, float_multiplier
from dovetail.multipliers.functions import from_callable
from dovetail.multipliers.kept import KEPT_KINDS, recall
from dovetail.multipliers.logarithms import alm, l_mul, mbm
from dovetail.multipliers.models import Model
from dovetail.multipliers.partial_products import array
from dovetail.multipliers.remainders import iterative_log, kulkarni, roba
from dovetail.multipliers.segments import dsm, essm, ssm
from dovetail.multipliers.sign_magnitude import SignMagnitude, sign_magnitude
from dovetail.multipliers.table import from_table
from dovetail.multipliers.truncated import truncated

__all__ = ["any_multiplier", "families", "multiplier", "register_multiplier"]

Factory = Callable[..., Multiplier]
_F = TypeVar("_F", bound=Factory)


def _sign_magnitude(core: Any) -> SignMagnitude:
    """An unsigned multiplier for signed operands: ``sign(a) sign(w) core(|a|, |w|)``.

    ``core`` is whatever `multiplier` takes; a table or a callable is read as unsigned.
    """
    unsigned: dict[str, Any] = {} if isinstance(core, (str, Multiplier)) else {"signed": False}
    return sign_magnitude(multiplier(core, **unsigned))


_FAMILIES: dict[str, Factory] = {
    "exact": exact,
    "array": array,
    "truncate": truncate,
    "truncated": truncated,
    "broken_array": broken_array,
    "drum": drum,
    "ssm": ssm,
    "essm": essm,
    "dsm": dsm,
    "mitchell": mitchell,
    "mbm": mbm,
    "alm": alm,
    "l_mul": l_mul,
    "iterative_log": iterative_log,
    "roba": roba,
    "kulkarni": kulkarni,
    "etm": etm,
    "sign_magnitude": _sign_magnitude,
}


@overload
def multiplier(
    spec: Any, /, *args: Any, format: str | Format, **kwargs: Any
) -> FloatMultiplier: ...
@overload
def multiplier(spec: Any, /, *args: Any, format: None = None, **kwargs: Any) -> Multiplier: ...
def multiplier(
    spec: Any, /, *args: Any, format: str | Format | None = None, **kwargs: Any
) -> Multiplier | FloatMultiplier:
    """The multiplier that ``spec`` describes.

    ``spec`` is one of: a circuit's name, ``"mul8s_1KV9"`` (v2022) or ``"mul8s_1L2H@v1.1"``; a
    family, ``"drum(k=6, bits=8)"`` or ``"drum", k=6, bits=8``; a table, any 2-d integer array or
    tensor (``signed=``, ``bits=``); the path of a ``.npy``, ``.npz``, ``.csv``, ``.txt``, ``.hex``,
    ``.mem``, ``.bin``, ``.h``, ``.c`` or ``.v`` file (``signed=``, ``bits=``, ``function=``,
    ``max_abs=``, and ``check=``, its source; see `from_file`); a callable ``f(first, second)``
    (``bits=8``, ``signed=``); or a multiplier, returned as it is. First = input, second = weight.
    With ``format=``, or a text that says so, a family multiplies the significands of that
    floating-point format, and ``output=`` is the format of its products (`float_multiplier`).

    >>> multiplier("mul8s_1KV9")
    mul8s_1KV9@v2022
    >>> multiplier("drum", k=6) == multiplier("drum(k=6, bits=8, signed=True)")
    True
    >>> multiplier(lambda a, w: a * w, bits=4).errors().wce
    0
    >>> multiplier("l_mul", format="bf16") == multiplier("l_mul(format='bf16')")
    True
    """
    if format is None:
        return any_multiplier(spec, *args, **kwargs)
    output = kwargs.pop("output", None)
    return float_multiplier(format, _for_significands(spec, args, kwargs), output)


def any_multiplier(spec: Any, *args: Any, **kwargs: Any) -> Multiplier | FloatMultiplier:
    """`multiplier`, of integers or of floating-point numbers as the text says.

    >>> any_multiplier("mitchell(format=fp8_e5m2)"), any_multiplier("kulkarni(bits=4)")
    (mitchell(format=fp8_e5m2), kulkarni(bits=4, signed=True))
    """
    if isinstance(spec, (Multiplier, FloatMultiplier)):
        _nothing_more(spec, args, kwargs)
        return spec
    if isinstance(spec, os.PathLike) or (isinstance(spec, str) and spec.endswith(SUFFIXES)):
        return _call(from_file, f"the file '{spec}'", (spec, *args), kwargs)
    if isinstance(spec, str):
        return _floating_text(spec, args, kwargs) or _from_text(spec, args, kwargs)
    if isinstance(spec, (np.ndarray, torch.Tensor, list, tuple)):
        return _call(from_table, "a table", (spec, *args), kwargs)
    if isinstance(spec, Model):
        raise DovetailError(
            f"{spec!r} approximates a multiplier and is none; use {spec.of!r} itself, or "
            f"dv.multiplier(<a function of your own that rounds the model's values>)"
        )
    if callable(spec):
        return _call(from_callable, "a callable", (spec, *args), kwargs)
    raise DovetailError(
        f"{spec!r} is no multiplier; give a name such as 'mul8s_1KV9' or 'drum(k=6)', a 2-d "
        f"integer array, a file ({', '.join(SUFFIXES)}), or a function f(input, weight)"
    )


def register_multiplier(name: str) -> Callable[[_F], _F]:
    """Make a factory known to `multiplier` by ``name``; its parameters are the spelling's.

    The factory returns a `Multiplier`, usually of an own frozen dataclass.

    >>> @register_multiplier("doubled_example")
    ... def doubled(bits=4):
    ...     return multiplier(lambda a, w: 2 * a * w, bits=bits)
    >>> multiplier("doubled_example(bits=3)")(1, 3)
    array(6)
    """

    def add(factory: _F) -> _F:
        try:
            bare = parse_call(name) == (name, [], {})
        except DovetailError:
            bare = False
        if not bare or name in KEPT_KINDS:
            raise DovetailError(f"{name!r} cannot name a multiplier family; use letters and digits")
        if _FAMILIES.get(name, factory) is not factory:
            raise DovetailError(f"a multiplier family {name!r} exists already; choose another name")
        _FAMILIES[name] = factory
        return factory

    return add


def families() -> dict[str, Family]:
    """Every family of multipliers by its name: its parameters, what it is, its paper.

    Plugins' and registered ones are included; their factories' docstrings are read likewise.

    >>> drum = families()["drum"]
    >>> drum.spelling, drum.paper[-11:]
    ('drum(k=6, bits=8, signed=True)', 'ICCAD 2015.')
    """
    load_plugins()
    return {
        name: described(name, _parameters(made), inspect.getdoc(made) or "")
        for name, made in sorted(_FAMILIES.items())
    }


def adaptable(text: str) -> bool:
    """Whether ``text`` names a family whose width is left open.

    >>> adaptable("drum(k=4)"), adaptable("drum(k=4, bits=8)"), adaptable("mul8u_1JJQ")
    (True, False, False)
    """
    name, args, given = parse_call(text)
    if name not in _FAMILIES or "bits" not in inspect.signature(_FAMILIES[name]).parameters:
        return False
    try:
        return (
            "bits" not in inspect.signature(_FAMILIES[name]).bind_partial(*args, **given).arguments
        )
    except TypeError:
        return False


def _for_significands(spec: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A family's text with the further arguments written into it, or whatever else was given."""
    if not args and not kwargs:
        return spec
    if not isinstance(spec, str):
        raise DovetailError(
            f"format= takes a family with its arguments, or one value alone, not {spec!r} and more"
        )
    name, written, given = parse_call(spec)
    return spell_call(name, *written, *args, **given, **kwargs)


def _floating_text(
    text: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> FloatMultiplier | None:
    """The multiplier of floats that ``text`` spells, if it does: by a family's ``format=``, or as
    ``float_multiplier(bf16, mantissa=...)``."""
    name, written, given = parse_call(text)
    if name == FLOAT_NAME:
        options = {**given, **kwargs}
        _bound(float_multiplier, f"'{name}'", (*written, *args), options)
        return float_multiplier(*written, *args, **options)
    if "format" not in given:
        return None
    fmt, output = given.pop("format"), given.pop("output", kwargs.pop("output", None))
    spec = _for_significands(spell_call(name, *written, **given), args, kwargs)
    return float_multiplier(fmt, spec, output)


def _from_text(text: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Multiplier:
    name, written, keywords = parse_call(text)
    if twice := sorted(set(keywords) & set(kwargs)):
        raise DovetailError(f"{text!r}: {twice[0]} is given in the text and beside it")
    if name in KEPT_KINDS:
        return recall(text, name, [*written, *args], {**keywords, **kwargs})
    if name not in _FAMILIES:
        circuit = find_circuit(name)
        if circuit is not None:
            _nothing_more(circuit, (*written, *args), {**keywords, **kwargs})
            return circuit
        load_plugins()
    if name not in _FAMILIES:
        raise _unknown_name(name)
    made = _call(_FAMILIES[name], f"'{name}'", (*written, *args), {**keywords, **kwargs})
    if not isinstance(made, Multiplier):
        raise DovetailError(f"the family '{name}' made {made!r}, which is not a Multiplier")
    return made


def _unknown_name(name: str) -> DovetailError:
    near = nearest_circuits(name, also=_FAMILIES)
    if not near:
        return unknown("multiplier", name, [*_FAMILIES, "mul8s_1KV9", "mul8s_1L2H@v1.1"])
    return DovetailError(
        f"unknown multiplier '{name}'; did you mean {' or '.join(repr(n) for n in near)}? "
        f"dv.catalog() lists the circuits; families: {', '.join(_FAMILIES)}"
    )


def _call(
    function: Callable[..., Multiplier], what: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Multiplier:
    """``function(*args, **kwargs)``, a wrong parameter being the user's error."""
    _bound(function, what, args, kwargs)
    return function(*args, **kwargs)


def _bound(
    function: Callable[..., Any], what: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise DovetailError(f"{what}: {error}; parameters: {_parameters(function)}") from None


def _parameters(function: Callable[..., Any]) -> str:
    """The parameter list without types: ``(k=6, bits=8, signed=True)``."""
    shown = (
        p.name if p.default is p.empty else f"{p.name}={p.default!r}"
        for p in inspect.signature(function).parameters.values()
    )
    return f"({', '.join(shown)})"


def _nothing_more(
    spec: Multiplier | FloatMultiplier, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    if args or kwargs:
        extra = [repr(value) for value in args] + [f"{key}=..." for key in kwargs]
        raise DovetailError(f"{spec!r} is complete and takes no {', '.join(extra)}")
