"""Modules that are one operator though torch has no function for it, known by their class's name.

Libraries of models write these out in tensor arithmetic, each model in a class of its own: there
are a hundred of the form ``LlamaRMSNorm``. Such a module is one operation; what it calls is none.
A user's own class becomes one by :func:`register_operator`.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.approximations.functions import FUNCTIONS, function_of
from dovetail.emulation.operators.base import SKIPPED, OpCall, Skipped
from dovetail.errors import DovetailError, unknown
from dovetail.kinds import KINDS

__all__ = [
    "TAKEN",
    "WholeModule",
    "class_kind",
    "follows_torch",
    "norm_offset",
    "register_operator",
]

#: Kinds by the class's name, a regular expression.
NAMES: dict[str, str] = {
    r"\w*RMSNorm": "rms_norm",
    # Named after the layer whose place they take, but they subtract no mean.
    r"(\w*T5|Pix2Struct|Pop2Piano|SwitchTransformers|Udop)LayerNorm": "rms_norm",
    r"(New|Fast|Accurate)?GELUActivation|GELUTanh|BloomGelu": "gelu",
    r"QuickGELUActivation": "quick_gelu",
}


Class = TypeVar("Class", bound=type[nn.Module])

_registered: dict[type[nn.Module], str] = {}


def register_operator(kind: str) -> Callable[[Class], Class]:
    """Decorator: every module of the class is one operation of that kind; what it calls is none.

    For classes that compute with a kernel of their own, or write out what torch has a function for.
    ``kind`` is one of the activations and normalisations of ``dovetail show ops``, of which the
    ``forward`` takes one tensor (``weight`` and ``bias`` are the module's attributes of that name),
    or ``rotate``, of which it takes a query, a key, cosines and sines, and returns both turned.
    Rules give such operations formats by slot as they do torch's own; ``fn`` is taken where the
    module computes what torch's function does. Derived classes that keep the ``forward`` are the
    same operation. Registering comes before ``apply_``.

    >>> @register_operator("layer_norm")
    ... class FusedNorm(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-5
    ...     def forward(self, x):
    ...         x = x - x.mean(-1, keepdim=True)
    ...         return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight
    >>> class_kind(FusedNorm)
    'layer_norm'
    """
    if kind not in _TAKES:
        raise unknown("kind of operator for a module", kind, _TAKES)

    def register(cls: Class) -> Class:
        takes = list(inspect.signature(cls.forward).parameters.values())[1:]
        if len(takes) != _TAKES[kind] or any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in takes):
            words = ", ".join(p.name for p in takes) or "nothing"
            raise DovetailError(
                f"register_operator('{kind}'): the forward of {cls.__name__} takes {words}; that "
                f"of a {kind} takes {'q, k, cos, sin' if kind == _ROTATE else 'one tensor'}"
            )
        _registered[cls] = kind
        return cls

    return register


_ROTATE = "rotate"

#: How many tensors the ``forward`` of a module of each kind takes.
_TAKES: dict[str, int] = {
    **{k.name: 1 for k in KINDS.values() if k.group in ("activation", "norm")},
    _ROTATE: 4,
}


#: The kinds of modules that are one operation, read as a whole.
TAKEN = frozenset(kind for kind, count in _TAKES.items() if count == 1)


def class_kind(cls: type[nn.Module]) -> str | None:
    """The one operation that a module of several torch functions is, or ``None``.

    Its ``forward`` takes one tensor and nothing else. Modules of torch itself call its functions.

    >>> class LlamaRMSNorm(nn.Module):
    ...     def forward(self, x):
    ...         return x * x.pow(2).mean(-1, keepdim=True).rsqrt()
    >>> class_kind(LlamaRMSNorm), class_kind(nn.RMSNorm)
    ('rms_norm', None)
    """
    cls = cls.__dict__.get("_dovetail_base", cls)
    owner = next((c for c in cls.__mro__ if c in _registered), None)
    if owner is not None and cls.forward is owner.forward:
        return _registered[owner]
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
        kind, forward = module._dovetail_kind, module._dovetail_base.forward
        operands = {"input": given[0]}
        for slot in ("weight", "bias"):
            value = getattr(module, slot, None)
            if isinstance(value, Tensor) and KINDS[kind].takes(slot):
                operands[slot] = value
        compute = functools.partial(_compute, forward, module, tuple(operands))
        return OpCall(kind, operands, compute, _attributes(module, kind, given[0]))


def _compute(forward: Any, module: nn.Module, slots: tuple[str, ...], **given: Any) -> Any:
    """The module's own forward, on other operands; the attributes it knows itself."""
    own = {slot: given[slot] for slot in slots if slot != "input"}
    return forward(_Standin(module, own), given["input"])


def _attributes(module: nn.Module, kind: str, x: Tensor) -> dict[str, Any]:
    """What torch's function of the same kind would be told: an approximation wants to know."""
    if kind in ("rms_norm", "layer_norm"):
        eps = next((module.__dict__[n] for n in _EPS if n in module.__dict__), None)
        return {"normalized_shape": x.shape[-1:], "eps": eps}
    if kind in ("softmax", "log_softmax"):
        return {"dim": module.__dict__.get("dim", -1)}
    if kind != "gelu":
        return {}
    form = "tanh" if type(module).__name__ in _TANH else "none"
    return {"approximate": module.__dict__.get("approximate", form)}


#: GELU by its tanh form, whatever the name says.
_TANH = (
    *("NewGELUActivation", "FastGELUActivation", "AccurateGELUActivation", "GELUTanh"),
    "BloomGelu",
)
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

    0 as torch's own, 1 as Gemma's. Of other modules that are one operation 0 too. ``None`` if the
    module computes something else than torch's function of its kind.

    >>> class GemmaRMSNorm(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = nn.Parameter(torch.zeros(8))
    ...     def forward(self, x):
    ...         return x * x.pow(2).mean(-1, keepdim=True).rsqrt() * (1 + self.weight)
    >>> norm_offset(GemmaRMSNorm())
    1.0
    """
    kind = class_kind(type(module))
    if kind is None or kind not in _EXACT:
        return 0.0
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    like = weight if isinstance(weight, Tensor) else torch.empty(8)
    if like.is_meta:
        return 0.0  # no number of it is known
    x = torch.linspace(-2, 3, like.numel(), device=like.device)
    known = _attributes(module, kind, x)
    with torch.no_grad():
        y = module(x).float()
        for offset in (0.0, 1.0) if kind == "rms_norm" and weight is not None else (0.0,):
            scale = None if weight is None else like.float() + offset
            shift = None if bias is None else bias.float()
            exact = _EXACT[kind](x, scale, shift, known)
            if torch.allclose(y, exact, rtol=0.02, atol=0.02):
                return offset
    return None


Exact = Callable[["Tensor", "Tensor | None", "Tensor | None", "dict[str, Any]"], Tensor]


def _unary(name: str) -> Exact:
    return lambda x, weight, bias, known: function_of(name, known).exact(x)


def _layer_norm(x: Tensor, weight: Any, bias: Any, known: dict[str, Any]) -> Tensor:
    eps = 1e-5 if known["eps"] is None else known["eps"]
    return F.layer_norm(x, known["normalized_shape"], weight, bias, eps)


#: torch's function of each kind that may be approximated.
_EXACT: dict[str, Exact] = {
    **{name: _unary(name) for name in FUNCTIONS if name in KINDS},
    "rms_norm": lambda x, weight, bias, known: F.rms_norm(x, weight=weight, **known),
    "layer_norm": _layer_norm,
    "softmax": lambda x, weight, bias, known: torch.softmax(x, known["dim"]),
    "log_softmax": lambda x, weight, bias, known: torch.log_softmax(x, known["dim"]),
}


class _Standin:
    """A module but for its weight and bias."""

    def __init__(self, module: nn.Module, own: dict[str, Tensor]) -> None:
        self._module = module
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        method = getattr(type(self._module), name, None)
        if isinstance(method, types.FunctionType):
            return functools.partial(method, self)
        return getattr(self._module, name)
