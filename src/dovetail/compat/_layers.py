"""What the predecessors' layers have in common: products of their own, ranges found later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from dovetail.arithmetic import Arithmetic
from dovetail.emulation.calls import Call
from dovetail.emulation.composites import Composite, Products
from dovetail.emulation.entry import table_of
from dovetail.emulation.mode import run_under
from dovetail.emulation.operators import OpCall
from dovetail.multipliers import Multiplier

if TYPE_CHECKING:
    from dovetail.emulation.mode import Mode

__all__ = ["Late", "OwnProducts", "spelling"]


class OwnProducts(nn.Module, ABC):
    """Mixin, placed before a torch layer: ``_product`` computes each product of its forward."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the torch layer's."""
        return run_under(_ENTRY, self, super().forward, args, kwargs)

    @abstractmethod
    def _product(self, index: int, call: Call) -> Tensor:
        """The ``index``-th product of one forward, in normal form."""


class Late(nn.Module):
    """A module with buffers that are ``None``, and in no state, until they are found or loaded."""

    late: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        for name in self.late:
            self.register_buffer(name, None)

    def _found(self, name: str, value: Tensor) -> None:
        setattr(self, name, value.detach().clone())

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name in self.late:
            given = state_dict.get(prefix + name)
            if given is not None and getattr(self, name) is None:
                setattr(self, name, torch.empty_like(given))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def spelling(input: Any, weight: Any, mul: Multiplier) -> str:
    """The spelling of an arithmetic; refused where the formats do not fit the multiplier."""
    arithmetic = Arithmetic(input=input, weight=weight, mul=mul)
    arithmetic.check("linear")
    return arithmetic.spelling


class _Entry:
    """Hands every product of a forward to the module's ``_product``."""

    table = table_of(("linear", "conv", "conv_transpose"))

    def handle(
        self,
        mode: Mode,
        reader: Any,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Carry out one intercepted call."""
        if isinstance(reader, Composite):
            unfused = reader.read(args, kwargs)
            return func(*args, **kwargs) if unfused is None else unfused.run(_Inside(mode.module))
        call = reader.call(args, kwargs)
        if not isinstance(call, Call):
            return func(*args, **kwargs)
        return call.finish(_computed(mode.module, mode.next_index(call.kind), call))


class _Inside(Products):
    """The products inside a recurrent layer; the functions of its gates stay exact."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def perform(self, index: int, call: Call | OpCall) -> Tensor:
        return _computed(self.module, index, call) if isinstance(call, Call) else call.exact()


def _computed(module: nn.Module, index: int, call: Call) -> Tensor:
    assert isinstance(module, OwnProducts)
    return module._product(index, call)


_ENTRY = _Entry()
