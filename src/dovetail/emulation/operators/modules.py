"""Modules that are one operator though torch has no function for it, known by their class's name.

Libraries of models write these out in tensor arithmetic, each model in a class of its own: there
are a hundred of the form ``LlamaRMSNorm``. Such a module is one operation; what it calls is none.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.emulation.operators.base import SKIPPED, OpCall, Skipped

__all__ = ["NAMES", "WholeModule", "class_kind", "follows_torch", "norm_offset"]

#: Kinds by the class's name, a regular expression.
NAMES: dict[str, str] = {
    r"\w*RMSNorm": "rms_norm",
    # Named after the layer whose place they take, but they subtract no mean.
    r"(\w*T5|Pix2Struct|Pop2Piano|SwitchTransformers|Udop)LayerNorm": "rms_norm",
    r"(New|Fast|Accurate)?GELUActivation|GELUTanh|BloomGelu": "gelu",
    r"QuickGELUActivation": "quick_gelu",
}


def class_kind(cls: type[nn.Module]) -> str | None:
    """The one operation that a module of several torch functions is, or ``None``.

    Its ``forward`` takes one tensor and nothing else. Modules of torch itself call its functions.

    >>> class LlamaRMSNorm(nn.Module):
    ...     def forward(self, x):
    ...         return x * x.pow(2).mean(-1, keepdim=True).rsqrt()
    >>> class_kind(LlamaRMSNorm), class_kind(nn.RMSNorm)
    ('rms_norm', None)
    """
    return _kind(cls.__name__, cls.forward)


@functools.cache
def _kind(name: str, forward: Callable[..., Any]) -> str | None:
    if (getattr(forward, "__module__", None) or "").startswith("torch.nn."):
        return None
    for pattern, kind in NAMES.items():
        if re.fullmatch(pattern, name):
            takes = list(inspect.signature(forward).parameters.values())
            plain = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in takes)
            return kind if len(takes) == 2 and plain else None
    return None


@dataclass(frozen=True)
class WholeModule:
    """How a call of such a module is read: its tensor, and its ``weight`` if it has one."""

    kinds: frozenset[str]
    only: str = ""  # a class's kind is its own

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpCall | Skipped:
        """``args`` are the module and, here or by name, what its ``forward`` was given."""
        module, *given = (*args, *kwargs.values())
        if len(given) != 1 or not isinstance(given[0], Tensor) or not given[0].is_floating_point():
            return SKIPPED
        operands = {"input": given[0]}
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor):
            operands["weight"] = weight
        kind, forward = module._dovetail_kind, module._dovetail_base.forward
        compute = functools.partial(_compute, forward, module)
        return OpCall(kind, operands, compute, _attributes(module, kind, given[0]))


def _compute(
    forward: Any, module: nn.Module, input: Tensor, weight: Tensor | None = None, **_: Any
) -> Any:
    """The module's own forward, on another weight; the attributes it knows itself."""
    return forward(_Standin(module, weight), input)


def _attributes(module: nn.Module, kind: str, x: Tensor) -> dict[str, Any]:
    """What torch's function of the same kind would be told: an approximation wants to know."""
    if kind == "rms_norm":
        eps = next((module.__dict__[n] for n in _EPS if n in module.__dict__), None)
        return {"normalized_shape": x.shape[-1:], "eps": eps}
    exact = type(module).__name__ == "GELUActivation"
    return {"approximate": "none" if exact else "tanh"} if kind == "gelu" else {}


_EPS = ("variance_epsilon", "eps", "epsilon")


def follows_torch(module: nn.Module) -> bool:
    """Whether such a module computes what torch's function of its kind does, on one example.

    >>> class MyRMSNorm(nn.Module):
    ...     def forward(self, x):
    ...         return 2 * x * x.pow(2).mean(-1, keepdim=True).rsqrt()
    >>> follows_torch(MyRMSNorm())
    False
    """
    return norm_offset(module) == 0


def norm_offset(module: nn.Module) -> float | None:
    """What an RMS normalisation adds to its weight before it scales by it, on one example.

    0 as torch's own, 1 as Gemma's; ``None`` if the module computes something else. Modules that are
    no such normalisation add nothing.

    >>> class GemmaRMSNorm(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = nn.Parameter(torch.zeros(8))
    ...     def forward(self, x):
    ...         return x * x.pow(2).mean(-1, keepdim=True).rsqrt() * (1 + self.weight)
    >>> norm_offset(GemmaRMSNorm())
    1.0
    """
    if class_kind(type(module)) != "rms_norm":
        return 0.0
    weight = getattr(module, "weight", None)
    like = weight if isinstance(weight, Tensor) else torch.empty(8)
    if like.is_meta:
        return 0.0  # no number of it is known
    x = torch.linspace(-2, 3, like.numel(), device=like.device)
    known = _attributes(module, "rms_norm", x)
    with torch.no_grad():
        y = module(x).float()
        for offset in (0.0,) if weight is None else (0.0, 1.0):
            scale = None if weight is None else like.float() + offset
            if torch.allclose(y, F.rms_norm(x, weight=scale, **known), rtol=0.02, atol=0.02):
                return offset
    return None


class _Standin:
    """A module but for its weight."""

    def __init__(self, module: nn.Module, weight: Tensor | None) -> None:
        self._module = module
        self.weight = weight

    def __getattr__(self, name: str) -> Any:
        method = getattr(type(self._module), name, None)
        if isinstance(method, types.FunctionType):
            return functools.partial(method, self)
        return getattr(self._module, name)
