"""The torch functions that rules reach, and the one form that their calls are brought into."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.kernels.geometry import LINEAR, Geometry

__all__ = ["COVERED", "UNCOVERED", "Call", "Reader"]


@dataclass(frozen=True)
class Call:
    """One multiply-accumulate as it was called, in normal form.

    ``linear``: x [..., K], weight [N, K]; ``conv``: x [B, C, *spatial]; ``matmul``: x [..., M, K],
    weight [..., K, N]. ``finish`` brings the result into the shape that the caller expects.
    """

    kind: str
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: Geometry
    squeeze: tuple[int, ...] = ()

    def exact(self) -> Tensor:
        """The result that torch itself computes, in normal form."""
        if self.kind == "matmul":
            return torch.matmul(self.x, self.weight)
        if self.kind == "linear":
            return F.linear(self.x, self.weight, self.bias)
        g = self.geometry
        x, padding = self.x, [low for low, _ in g.padding]
        if any(low != high for low, high in g.padding):
            x = F.pad(x, [p for pair in reversed(g.padding) for p in pair])
            padding = [0] * g.spatial
        conv = _CONV[g.spatial]
        return conv(x, self.weight, self.bias, g.stride, padding, g.dilation, g.groups)

    def with_operands(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Call:
        """The same call on other operands of the same shapes."""
        return replace(self, x=x, weight=weight, bias=bias)

    def finish(self, y: Tensor) -> Tensor:
        """``y`` in the shape that the caller expects."""
        for dim in self.squeeze:
            y = y.squeeze(dim)
        return y

    @property
    def reduction(self) -> int:
        """How many products are summed into one output."""
        return self.weight.shape[-2] if self.kind == "matmul" else self.weight[0].numel()


_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call:
    return Call("linear", x, weight, bias, LINEAR)


def _addmm(
    bias: Tensor, x: Tensor, weight: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Call | None:
    if beta != 1 or alpha != 1 or bias.dim() != 1:
        return None
    return Call("linear", x, weight.mT, bias, LINEAR)


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


def _spelled_padding(word: str, dilation: Any, kernel: Sequence[int]) -> list[tuple[int, int]]:
    """``same`` as torch pads it: what does not split evenly goes to the high side."""
    if word == "valid":
        return [(0, 0)] * len(kernel)
    steps = [dilation] * len(kernel) if isinstance(dilation, int) else list(dilation)
    steps = steps * len(kernel) if len(steps) == 1 else steps
    spans = [d * (k - 1) for d, k in zip(steps, kernel, strict=True)]
    return [(span // 2, span - span // 2) for span in spans]


_aten = torch.ops.aten
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
        f: _conv(n)
        for n, names in enumerate(("conv1d", "conv2d", "conv3d"), start=1)
        for f in (
            getattr(F, names),
            getattr(torch, names),
            getattr(_aten, names),
            getattr(_aten, names).default,
            getattr(_aten, names).padding,
        )
    },
}

_KINDS = {_linear: "linear", _addmm: "linear", _matmul: "matmul", _reversed_matmul: "matmul"}
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

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """The call in normal form; ``None`` if it is no plain product of strided tensors.

        Such are ``addmm`` with a beta, a result written to ``out=``, a sparse operand.
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
        return call


#: How to read every function that a rule can reach.
COVERED: dict[Any, Reader] = {
    func: Reader(
        _KINDS.get(read, "conv"),
        read,
        _NAMES.get(read, {"input": "x"}),
        frozenset(inspect.signature(read).parameters),
    )
    for func, read in _READERS.items()
}

#: Functions that multiply and accumulate, but that no rule reaches yet: a plan lists them.
UNCOVERED: dict[Any, str] = {
    F.bilinear: "bilinear",
    F.conv_transpose1d: "conv_transpose1d",
    F.conv_transpose2d: "conv_transpose2d",
    F.conv_transpose3d: "conv_transpose3d",
    F.multi_head_attention_forward: "multi_head_attention",
    F.scaled_dot_product_attention: "scaled_dot_product_attention",
    torch.einsum: "einsum",
    torch.functional.einsum: "einsum",
    torch.gru: "gru",
    torch.gru_cell: "gru_cell",
    torch.linalg.multi_dot: "multi_dot",
    torch.lstm: "lstm",
    torch.lstm_cell: "lstm_cell",
    torch.rnn_relu: "rnn_relu",
    torch.rnn_relu_cell: "rnn_relu_cell",
    torch.rnn_tanh: "rnn_tanh",
    torch.rnn_tanh_cell: "rnn_tanh_cell",
    torch.tensordot: "tensordot",
    torch.functional.tensordot: "tensordot",
    torch.vdot: "vdot",
    Tensor.vdot: "vdot",
    **{
        getattr(owner, name): name
        for name in ("addbmm", "addmv", "baddbmm", "inner")
        for owner in (torch, Tensor)
    },
    **{
        getattr(Tensor, name): name
        for name in ("addbmm_", "addmm_", "addmv_", "baddbmm_", "__imatmul__")
        if hasattr(Tensor, name)
    },
}
