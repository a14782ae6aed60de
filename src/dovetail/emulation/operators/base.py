"""What an operator is: a torch function that is no product, and the one form of its calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["SKIPPED", "OpCall", "Operator", "Skipped", "family", "packet", "slot_of"]


class Skipped:
    """What a reader says of a call that is no operation of its kind: ``x + 1``, integer tensors."""


SKIPPED = Skipped()


@dataclass  # not frozen: there is one for every call, and a frozen one takes a microsecond longer
class OpCall:
    """One call of an operator: its castable tensors by slot, and the function that takes them.

    ``attributes`` are the call's other arguments, ``mutable`` the names of those that it writes to;
    ``target`` is the tensor that an in-place call writes to.
    """

    kind: str
    operands: Mapping[str, Tensor]
    function: Callable[..., Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    target: Tensor | None = None
    mutable: frozenset[str] = frozenset()

    def exact(self) -> Tensor:
        """What torch itself computes."""
        result: Tensor = self.function(**self.operands, **self.attributes)
        return result

    def without_effects(self) -> OpCall:
        """The same call, which may be computed once more: what it writes to is a copy."""
        copies = {
            n: v.clone() for n, v in self.attributes.items() if n in self.mutable and v is not None
        }
        return replace(self, attributes={**self.attributes, **copies})

    def with_operands(self, operands: Mapping[str, Tensor]) -> OpCall:
        """The same call on other operands of the same shapes."""
        return replace(self, operands=operands)

    def finish(self, y: Tensor) -> Tensor:
        """``y`` as the caller expects it: in the tensor written to, if the call is in place."""
        return y if self.target is None else self.target.copy_(y)


@dataclass(frozen=True)
class Operator:
    """How the calls of one torch function are read.

    ``function`` takes the operands and the attributes by name. Where the first slot holds several
    tensors, they are ``input``, ``input_1``, ``input_2`` and so on.
    ``order`` lists the names of the function's positional arguments. Arguments that are neither
    slots nor attributes must have the values of ``fixed`` or be ``None``, or the call is not read;
    those of ``ignored`` may have any. A call with the attributes of ``narrow[1]`` is of the kind
    ``narrow[0]``.
    """

    kind: str
    function: Callable[..., Any]
    slots: tuple[str, ...]
    order: tuple[str, ...]
    attributes: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    inplace: bool = False
    narrow: tuple[str, Mapping[str, Any]] | None = None
    mutable: frozenset[str] = frozenset()

    @property
    def only(self) -> str:
        """The kind that every call of it is of; empty if there are several."""
        return self.kind if self.narrow is None else ""

    @property
    def kinds(self) -> frozenset[str]:
        """Every kind that a call may be of."""
        return frozenset({self.kind} if self.narrow is None else {self.kind, self.narrow[0]})

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> OpCall | Skipped | None:
        """The call in normal form; ``None`` if it cannot be read, ``SKIPPED`` if it is none."""
        plain = not kwargs and self.order[: len(args)] == self.slots
        found = self._plain(args) if plain else None
        return self._read(args, kwargs) if found is None else found

    def _read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> OpCall | Skipped | None:
        if len(args) > len(self.order):
            return None
        given = dict(zip(self.order, args, strict=False))
        for key, value in kwargs.items():
            given[self.renamed.get(key, key)] = value
        operands = {slot: given.pop(slot) for slot in self.slots if given.get(slot) is not None}
        several = operands.get(self.slots[0])
        if isinstance(several, (tuple, list)):
            operands = {slot_name(i): tensor for i, tensor in enumerate(several)}
        if not all(_is_float(t) for t in operands.values()) or self.slots[0] not in operands:
            return SKIPPED
        inplace = bool(given.pop("inplace", False)) or self.inplace
        attributes = {name: given.pop(name) for name in self.attributes if name in given}
        for name, value in given.items():
            if name not in self.ignored and not _is_default(value, self.fixed.get(name)):
                return None
        target = operands[self.slots[0]] if inplace else None
        kind = self.kind
        if self.narrow is not None and attributes == self.narrow[1]:
            kind = self.narrow[0]
        return OpCall(kind, operands, self.function, attributes, target, self.mutable)

    def _plain(self, args: tuple[Any, ...]) -> OpCall | Skipped | None:
        """What most calls are: the operands and nothing else. ``None``: it has to be read."""
        for value in args:
            if not _is_float(value):
                return SKIPPED if isinstance(value, (int, float, Tensor)) else None
        operands = dict(zip(self.slots, args, strict=True))
        target = args[0] if self.inplace else None
        return OpCall(self.kind, operands, self.function, {}, target, self.mutable)


def slot_name(place: int) -> str:
    """What the ``place``-th of several tensors in the slot ``input`` is called."""
    return f"input_{place}" if place else "input"


def slot_of(name: str) -> str:
    """The slot that an operand belongs to.

    >>> slot_of("input_3"), slot_of("weight"), slot_of("weight_storage")
    ('input', 'weight', 'weight_storage')
    """
    slot, _, place = name.rpartition("_")
    return slot if place.isdigit() else name


def _is_default(value: Any, default: Any) -> bool:
    return value is None or (not isinstance(value, Tensor) and bool(value == default))


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided


def family(
    kind: str,
    function: Callable[..., Any],
    spellings: Iterable[Any],
    *,
    slots: tuple[str, ...] = ("input",),
    attributes: tuple[str, ...] = (),
    inplace: Iterable[Any] = (),
    aten: Iterable[str] = (),
    order: Mapping[str, Any] | None = None,
    ignored: Iterable[str] = (),
    renamed: Mapping[str, str] | None = None,
    narrow: tuple[str, Mapping[str, Any]] | None = None,
    mutable: Iterable[str] = (),
) -> dict[Any, Operator]:
    """Every torch function that is an operator of ``kind``, with how its calls are read.

    ``spellings`` are the functions, ``inplace`` those that write to their first argument, ``aten``
    names of aten functions, which exported models call. The order of their arguments is taken from
    the functions themselves where they tell it, else it is ``order`` (names and default values), or
    ``slots`` and then ``attributes``. ``mutable`` names attributes that the function writes to.
    """
    names = {"self": "input", **(renamed or {})}
    found: dict[Any, Operator] = {}
    declared = order or dict.fromkeys((*slots, *attributes, "inplace"))
    functions = [*spellings, *(f for name in aten for f in packet(name))]
    for spelling, writes in (*((f, False) for f in functions), *((f, True) for f in inplace)):
        defaults = {names.get(k, k): v for k, v in (_arguments(spelling) or declared).items()}
        found[spelling] = Operator(
            kind,
            function,
            slots,
            tuple(defaults),
            frozenset(attributes),
            names,
            defaults,
            frozenset(ignored),
            writes,
            narrow,
            frozenset(mutable),
        )
    return found


def packet(name: str) -> list[Any]:
    """An aten function with its overloads."""
    found = getattr(torch.ops.aten, name)
    return [found, *(getattr(found, overload) for overload in found.overloads())]


def _arguments(function: Any) -> dict[str, Any] | None:
    """Names and defaults of a function's arguments in their order; ``None`` if it does not say.

    What is written in C++ says nothing, but takes what the aten function of its name takes.
    """
    if inspect.isbuiltin(function) or inspect.ismethoddescriptor(function):
        function = getattr(torch.ops.aten, function.__name__.rstrip("_"), None)
    if isinstance(function, torch._ops.OpOverloadPacket):
        function = getattr(function, function.overloads()[0])
    if isinstance(function, torch._ops.OpOverload):
        return {a.name: a.default_value for a in function._schema.arguments}
    if not inspect.isfunction(function):
        return None
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return {p.name: None if p.default is p.empty else p.default for p in parameters}
