"""The torch functions that rules reach, and how their calls are read."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.emulation.calls import Call, Spread, flipped, kept
from dovetail.emulation.operators.base import SKIPPED, Skipped
from dovetail.kernels.geometry import LINEAR, Geometry

__all__ = ["COVERED", "UNCOVERED", "Reader"]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call:
    return Call("linear", x, weight, bias, LINEAR)


def _addmm(
    bias: Tensor, x: Tensor, weight: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Call | None:
    if beta != 1 or alpha != 1 or bias.dim() != 1:
        return None

    def transposed() -> Tensor:  # what is kept must not be a view of the weight: that kept it alive
        return (weight if torch.is_grad_enabled() else weight.detach()).mT

    return Call("linear", x, kept(weight, "transposed", transposed), bias, LINEAR)


def _matmul(x: Tensor, weight: Tensor) -> Call:
    squeeze: tuple[int, ...] = ()
    if weight.dim() == 1:
        weight, squeeze = weight[:, None], (-1,)
    if x.dim() == 1:
        x, squeeze = x[None], (*squeeze, -2 if not squeeze else -1)
    return Call("matmul", x, weight, None, LINEAR, squeeze)


def _reversed_matmul(weight: Tensor, x: Tensor) -> Call:
    return _matmul(x, weight)


def _conv(spatial: int) -> Callable[..., Call]:
    def read(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Call:
        unbatched = x.dim() == spatial + 1
        if isinstance(padding, str):
            padding = _spelled_padding(padding, dilation, weight.shape[2:])
        geometry = Geometry.conv(
            spatial, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        x = x[None] if unbatched else x
        return Call("conv", x, weight, bias, geometry, (0,) if unbatched else ())

    return read


def _conv_transpose(spatial: int) -> Callable[..., Call | None]:
    def read(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Call | None:
        plain = Geometry.conv(spatial, stride=stride, dilation=dilation, groups=groups)
        spread = Spread.of(spatial, plain, padding, output_padding, weight.shape[2:])
        unbatched = x.dim() == spatial + 1
        x = x[None] if unbatched else x
        if x.dim() != weight.dim() or x.shape[1] != weight.shape[0] or spread is None:
            return None  # torch refuses it
        border = tuple((max(0, low), max(0, high)) for low, high in spread.border)
        geometry = replace(plain, stride=(1,) * spatial, padding=border)
        turned = flipped(weight, groups)
        squeeze = (0,) if unbatched else ()
        return Call("conv_transpose", x, turned, bias, geometry, squeeze, spread)

    return read


def _spelled_padding(word: str, dilation: Any, kernel: Sequence[int]) -> list[tuple[int, int]]:
    """``same`` as torch pads it: what does not split evenly goes to the high side."""
    if word == "valid":
        return [(0, 0)] * len(kernel)
    steps = [dilation] * len(kernel) if isinstance(dilation, int) else list(dilation)
    steps = steps * len(kernel) if len(steps) == 1 else steps
    spans = [d * (k - 1) for d, k in zip(steps, kernel, strict=True)]
    return [(span // 2, span - span // 2) for span in spans]


_aten = torch.ops.aten
_CONVS = {n: _conv(n) for n in (1, 2, 3)}
_TRANSPOSED = {n: _conv_transpose(n) for n in (1, 2, 3)}
_READERS: dict[Any, Callable[..., Call | None]] = {
    F.linear: _linear,
    _aten.linear: _linear,
    _aten.linear.default: _linear,
    torch.addmm: _addmm,
    Tensor.addmm: _addmm,
    _aten.addmm: _addmm,
    _aten.addmm.default: _addmm,
    Tensor.__rmatmul__: _reversed_matmul,
    **dict.fromkeys(
        (
            torch.matmul,
            Tensor.matmul,
            Tensor.__matmul__,
            operator.matmul,
            torch.mm,
            Tensor.mm,
            torch.bmm,
            Tensor.bmm,
            torch.mv,
            Tensor.mv,
            torch.dot,
            Tensor.dot,
            torch.linalg.matmul,
            _aten.matmul,
            _aten.mm,
            _aten.bmm,
            _aten.matmul.default,
            _aten.mm.default,
            _aten.bmm.default,
        ),
        _matmul,
    ),
    **{
        f: read
        for n, read in _CONVS.items()
        for names in (f"conv{n}d",)
        for f in (
            getattr(F, names),
            getattr(torch, names),
            getattr(_aten, names),
            getattr(_aten, names).default,
            getattr(_aten, names).padding,
        )
    },
    **{
        f: read
        for n, read in _TRANSPOSED.items()
        for packet in (getattr(_aten, f"conv_transpose{n}d"),)
        for f in (
            getattr(torch, f"conv_transpose{n}d"),
            packet,
            *(getattr(packet, overload) for overload in packet.overloads()),
        )
    },
}

_KINDS: dict[Callable[..., Call | None], str] = {
    _linear: "linear",
    _addmm: "linear",
    _matmul: "matmul",
    _reversed_matmul: "matmul",
    **dict.fromkeys(_CONVS.values(), "conv"),
    **dict.fromkeys(_TRANSPOSED.values(), "conv_transpose"),
}
_NAMES = {
    _linear: {"input": "x"},
    _addmm: {"input": "bias", "self": "bias", "mat1": "x", "mat2": "weight"},
    _matmul: {"input": "x", "self": "x", "other": "weight", "mat2": "weight"}
    | {"vec": "weight", "tensor": "weight"},
    _reversed_matmul: {"self": "weight", "other": "x"},
}


class Reader(NamedTuple):
    """How one torch function is read: the kind of op it is, and its arguments' names in ours."""

    kind: str
    read: Callable[..., Call | None]
    names: dict[str, str]
    takes: frozenset[str]

    @property
    def only(self) -> str:
        """The kind that every call of it is of."""
        return self.kind

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | Skipped | None:
        """The call in normal form; ``None`` if it is no plain product of strided tensors, and
        ``SKIPPED`` if it is one of integers.

        No plain products are ``addmm`` with a beta, a result written to ``out=``, a sparse operand.
        """
        named = {}
        for key, value in kwargs.items():
            name = self.names.get(key, key)
            if name in self.takes:
                named[name] = value
            elif value is not None:
                return None
        call = self.read(*args, **named)
        if call is None or call.x.layout != torch.strided or call.weight.layout != torch.strided:
            return None
        return call if call.x.is_floating_point() else SKIPPED


#: How to read every product that a rule can reach.
COVERED: dict[Any, Reader] = {
    func: Reader(
        _KINDS[read],
        read,
        _NAMES.get(read, {"input": "x"}),
        frozenset(inspect.signature(read).parameters),
    )
    for func, read in _READERS.items()
}

#: Functions that multiply and accumulate, but that no rule reaches yet: a plan lists them.
UNCOVERED: dict[Any, str] = {
    torch.linalg.multi_dot: "multi_dot",
    torch.tensordot: "tensordot",
    torch.functional.tensordot: "tensordot",
    torch.vdot: "vdot",
    Tensor.vdot: "vdot",
    **{
        getattr(owner, name): name
        for name in ("addbmm", "addmv", "inner")
        for owner in (torch, Tensor)
    },
    **{
        getattr(Tensor, name): name
        for name in ("addbmm_", "addmm_", "addmv_", "baddbmm_", "__imatmul__")
        if hasattr(Tensor, name)
    },
}
