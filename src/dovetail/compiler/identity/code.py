"""Functions, classes, modules of Python and modules of torch, as a digest takes them."""

from __future__ import annotations

import builtins
import dis
import functools
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from torch import nn

from dovetail.compiler.identity.digest import Digest, UnknownError
from dovetail.compiler.identity.trusted import (
    PURE,
    is_trusted_class,
    is_trusted_function,
    is_trusted_module,
)

__all__ = ["reader"]

#: They let code depend on what cannot be seen in it.
_OPAQUE = {"eval", "exec", "open", "input", "__import__", "globals", "breakpoint", "id"}
_NO_CODE = {
    *("__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__annotations__"),
    *("__static_attributes__", "__abstractmethods__", "_abc_impl", "__orig_bases__"),
    *("__parameters__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__match_args__", "__qualname__"),
}
_IN_C = (
    BuiltinFunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)

Reader = Callable[[Digest, Any, str], None]


def reader(value: Any) -> Reader | None:
    """What adds ``value`` to a digest, if it is code or a module; otherwise None."""
    for kinds, found in _READERS:
        if isinstance(value, kinds):
            return found
    return None


def _function(digest: Digest, function: FunctionType, where: str) -> None:
    if not digest.is_new(function):
        return
    if is_trusted_function(function):
        line = str(function.__code__.co_firstlineno)
        digest.token("trusted", str(function.__module__), function.__qualname__, line)
    else:
        digest.token("function")
        digest.codes |= set(_nested(function.__code__))
        _code(digest, function.__code__, where)
        _names(digest, function, where)
        digest.add(function.__defaults__, where)
        digest.add(function.__kwdefaults__, where)
        digest.items(function.__dict__, where)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        digest.token(name)
        _cell(digest, cell, f"{where}.{name}")


def _cell(digest: Digest, cell: CellType, where: str) -> None:
    try:
        value = cell.cell_contents
    except ValueError:
        digest.token("empty")
        return
    digest.add(value, where)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _code(digest: Digest, code: CodeType, where: str) -> None:
    digest.token("code", str(code.co_flags), str(code.co_argcount), str(code.co_kwonlyargcount))
    digest.token(str(code.co_posonlyargcount))
    digest.bytes(code.co_code)
    for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
        digest.token(str(len(names)), *names)
    digest.bytes(getattr(code, "co_exceptiontable", b""))
    digest.add(code.co_consts, where)


@lru_cache(maxsize=4096)
def _loaded(code: CodeType) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Of all code inside: the global names, the modules imported, and every name."""
    found: set[str] = set()
    imported: set[str] = set()
    names: set[str] = set()
    for one in _nested(code):
        names |= set(one.co_names)
        for step in dis.get_instructions(one):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                found.add(str(step.argval))
            elif step.opname == "IMPORT_NAME":
                imported.add(str(step.argval))
    return tuple(sorted(found)), tuple(sorted(imported)), tuple(sorted(names))


def _names(digest: Digest, function: FunctionType, where: str) -> None:
    """What the names in a function's code stand for."""
    loaded, imported, names = _loaded(function.__code__)
    own = function.__globals__
    for name in loaded:
        digest.token(name)
        place = f"{where}.{name}" if where else name
        if name not in own:
            _builtin(digest, name, where)
        elif isinstance(own[name], ModuleType):
            _used(digest, own[name], names, place)
        else:
            digest.add(own[name], place)
    for name in imported:
        module = sys.modules.get(name)
        if module is None or not is_trusted_module(module):
            raise UnknownError(f"{where}: an import of '{name}' when called")
        _used(digest, module, names, where)


def _builtin(digest: Digest, name: str, where: str) -> None:
    if name in _OPAQUE:
        raise UnknownError(f"{where}: a call of {name}()")
    value = getattr(builtins, name, None)
    digest.token("builtin", name)
    if isinstance(value, FunctionType):
        digest.add(value, name)


def _used(digest: Digest, module: ModuleType, names: tuple[str, ...], where: str) -> None:
    """A module that code uses the ``names`` of, among others."""
    if not is_trusted_module(module):
        digest.add(module, where)
        return
    digest.token("module", module.__name__)
    top = module.__name__.split(".")[0]
    if top not in ("torch", "numpy", "dovetail") and module.__name__ not in PURE:
        raise UnknownError(f"{where}: Python's module '{module.__name__}'")
    if top == "numpy" and "random" in names:
        raise UnknownError(f"{where}: numpy's random numbers")
    if top == "torch" and "ops" in names:
        _check_operators(names, where)
    for name in names:
        held = module.__dict__.get(name)
        strange = (isinstance(held, FunctionType) and not is_trusted_function(held)) or (
            isinstance(held, type) and not is_trusted_class(held)
        )
        if strange:  # somebody has replaced it
            digest.add(held, f"{where}.{name}")


def _check_operators(names: tuple[str, ...], where: str) -> None:
    for name in set(names) & set(torch.ops.__dict__):
        space = torch.ops.__dict__[name]
        if isinstance(space, torch._ops._OpNamespace) and name not in OPERATORS:
            raise UnknownError(f"{where}: operators of '{name}'")


#: Namespaces of operators that a version stands for.
OPERATORS = ("aten", "prim", "prims", "dovetail")


def _module(digest: Digest, module: ModuleType, where: str) -> None:
    if not digest.is_new(module):
        return
    digest.token("module", module.__name__)
    if not is_trusted_module(module):
        held = {n: v for n, v in vars(module).items() if not n.startswith("__")}
        digest.items(held, where or module.__name__)


def _class(digest: Digest, cls: type, where: str) -> None:
    if not digest.is_new(cls):
        return
    digest.token("class", str(cls.__module__), cls.__qualname__)
    trusted = is_trusted_class(cls)
    for base in () if trusted and not issubclass(cls, nn.Module) else cls.__mro__[1:-1]:
        digest.add(base, where)
    if type(cls) is not type:
        digest.add(type(cls), where)
    for name, value in list(vars(cls).items()):
        if name in _NO_CODE or isinstance(value, _IN_C):
            continue
        if trusted and not (isinstance(value, FunctionType) and not is_trusted_function(value)):
            continue
        digest.token(name)
        digest.add(value, f"{cls.__qualname__}.{name}")


def _bound(digest: Digest, method: MethodType, where: str) -> None:
    digest.token("method")
    digest.add(method.__func__, where)
    digest.add(method.__self__, where)


def _in_c(digest: Digest, function: Any, where: str) -> None:
    digest.token("C", str(getattr(function, "__module__", "")), function.__qualname__)
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType):
        digest.add(owner, where)


def _partial(digest: Digest, value: Any, where: str) -> None:
    digest.token("partial")
    digest.add((value.func, value.args), where)
    digest.items(value.keywords, where)


def _property(digest: Digest, value: property, where: str) -> None:
    digest.token("property")
    digest.add((value.fget, value.fset, value.fdel), where)


def _wrapped(digest: Digest, value: Any, where: str) -> None:
    digest.token(type(value).__name__)
    digest.add(value.__wrapped__, where)


def _held(digest: Digest, value: Any, where: str) -> None:
    digest.token(type(value).__name__)
    digest.add(value.func, where)


def _dtype(digest: Digest, value: Any, _: str) -> None:
    digest.token("numpy", str(getattr(value, "dtype", value)), repr(value))


def _network(digest: Digest, value: nn.Module, where: str) -> None:
    from dovetail.compiler.identity.network import network

    network(digest, value, where)


_READERS: tuple[tuple[Any, Reader], ...] = (
    (FunctionType, _function),
    (type, _class),
    (nn.Module, _network),
    (ModuleType, _module),
    (MethodType, _bound),
    (_IN_C, _in_c),
    (functools.partial, _partial),
    (property, _property),
    ((staticmethod, classmethod, type(functools.lru_cache(len))), _wrapped),
    ((functools.cached_property,), _held),
    (CodeType, _code),
    (CellType, _cell),
    ((np.generic, np.dtype), _dtype),
)
