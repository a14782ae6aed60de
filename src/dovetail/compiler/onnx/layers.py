"""Nodes that are exactly a layer of `torch.nn`: they become one, with all that applies to layers.

Their weights are constants of the model, and their attributes say nothing that the layer does not.
Everything else calls the operator's function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.compiler.onnx.types import FLOATS

__all__ = ["LAYERS", "Layer"]


@dataclass(frozen=True)
class Layer:
    """A layer without its tensors, which initialiser each is, and which of those are turned."""

    module: nn.Module
    tensors: dict[str, int]  # name in the layer -> position of the node's input
    turned: bool = False  # whether the weight is the transpose of the initialiser


#: Given the initialisers by position (``None``: not one), the attributes and the input's rank.
LAYERS: dict[str, Callable[[Sequence[Tensor | None], dict[str, Any], int | None], Layer | None]]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def _window(weight: Tensor | None, attributes: dict[str, Any]) -> dict[str, Any] | None:
    """Stride, padding and dilation where the padding is the same on both sides."""
    if weight is None or weight.dtype not in FLOATS or not 3 <= weight.dim() <= 5:
        return None
    n = weight.dim() - 2
    pads = attributes.get("pads") or [0] * 2 * n
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or pads[:n] != pads[n:]:
        return None
    if attributes.get("kernel_shape", list(weight.shape[2:])) != list(weight.shape[2:]):
        return None
    return {
        "stride": tuple(attributes.get("strides") or [1] * n),
        "padding": tuple(pads[:n]),
        "dilation": tuple(attributes.get("dilations") or [1] * n),
        "groups": attributes.get("group", 1),
    }


def _slots(tensors: Sequence[Tensor | None], first: int = 1) -> dict[str, int] | None:
    """Weight, and bias if there is one that is a constant; ``None`` if the bias is computed."""
    biased = len(tensors) > first + 1
    if biased and tensors[first + 1] is None:
        return None
    return {"weight": first} | ({"bias": first + 1} if biased else {})


def _conv(
    tensors: Sequence[Tensor | None], attributes: dict[str, Any], _rank: int | None
) -> Layer | None:
    weight, slots = tensors[1], _slots(tensors)
    window = _window(weight, attributes)
    if weight is None or window is None or slots is None:
        return None
    outputs, inputs, *kernel = weight.shape
    kind: Any = _CONVOLUTIONS[len(kernel) - 1]
    sizes = (inputs * window["groups"], outputs, tuple(kernel))
    return Layer(kind(*sizes, bias="bias" in slots, device="meta", **window), slots)


def _conv_transpose(
    tensors: Sequence[Tensor | None], attributes: dict[str, Any], _rank: int | None
) -> Layer | None:
    weight, slots = tensors[1], _slots(tensors)
    window = _window(weight, attributes)
    if weight is None or window is None or slots is None or "output_shape" in attributes:
        return None
    inputs, outputs, *kernel = weight.shape
    kind: Any = _TRANSPOSED[len(kernel) - 1]
    extra = tuple(attributes.get("output_padding") or [0] * len(kernel))
    steps = zip(extra, window["stride"], window["dilation"], strict=True)
    if any(e >= max(s, d) for e, s, d in steps):
        return None
    sizes = (inputs, outputs * window["groups"], tuple(kernel))
    layer = kind(*sizes, bias="bias" in slots, output_padding=extra, device="meta", **window)
    return Layer(layer, slots)


def _gemm(
    tensors: Sequence[Tensor | None], attributes: dict[str, Any], _rank: int | None
) -> Layer | None:
    weight, slots = tensors[1], _slots(tensors)
    if weight is None or weight.dtype not in FLOATS or slots is None:
        return None
    if attributes.get("alpha", 1.0) != 1 or attributes.get("transA", 0):
        return None
    turned = not attributes.get("transB", 0)
    inputs, outputs = weight.shape if turned else weight.shape[::-1]
    bias = tensors[2] if "bias" in slots else None
    if bias is not None and (attributes.get("beta", 1.0) != 1 or bias.shape != (outputs,)):
        return None
    layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    return Layer(layer, slots, turned)


def _matmul(
    tensors: Sequence[Tensor | None], _attributes: dict[str, Any], rank: int | None
) -> Layer | None:
    """``x @ W``; a third tensor is the bias that a following node adds."""
    weight = tensors[1]
    if weight is None or weight.dtype not in FLOATS or weight.dim() != 2 or rank == 0:
        return None
    slots = _slots(tensors) or {}
    layer = nn.Linear(weight.shape[0], weight.shape[1], bias="bias" in slots, device="meta")
    return Layer(layer, slots, turned=True)


def _batch_norm(
    tensors: Sequence[Tensor | None], attributes: dict[str, Any], rank: int | None
) -> Layer | None:
    if rank not in _BATCH_NORMS or any(t is None or t.dtype not in FLOATS for t in tensors[1:5]):
        return None
    if attributes.get("training_mode", 0) or not attributes.get("spatial", 1):
        return None
    mean = tensors[3]
    assert mean is not None
    momentum = 1 - attributes.get("momentum", 0.9)
    layer = _BATCH_NORMS[rank](
        mean.numel(), eps=attributes.get("epsilon", 1e-5), momentum=momentum, device="meta"
    )
    layer.num_batches_tracked = torch.tensor(0)
    names = ("weight", "bias", "running_mean", "running_var")
    return Layer(layer, dict(zip(names, range(1, 5), strict=True)))


LAYERS = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
}
