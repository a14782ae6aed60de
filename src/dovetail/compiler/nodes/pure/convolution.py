"""Convolutions of any dimension and their gradients, one multiplication at a time.

Padding, and the gaps that a stride leaves between the pixels of a gradient, are zeros of a
transient tensor: every access is then an affine function of the map's parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dovetail.compiler.nodes.pure.body import Body, Tensor

__all__ = ["Window", "backward", "convolution", "forward_sums", "placed"]


@dataclass(frozen=True)
class Window:
    """How a window moves over the pixels; padding in front of them, and groups of channels."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int

    @classmethod
    def of(cls, attributes: Any) -> Window:
        """That of ``aten::convolution`` and its gradient."""
        return cls(
            attributes["stride"],
            attributes["padding"],
            attributes["dilation"],
            attributes["groups"],
        )

    @property
    def axes(self) -> range:
        """The spatial dimensions."""
        return range(len(self.stride))


def convolution(body: Body) -> None:
    """``aten::convolution``, transposed or not."""
    x, weight, bias = body.inputs
    result, window = body.outputs[0], Window.of(body.call.attributes)
    if body.call.attributes["transposed"]:
        _scattered(body, x, weight, result, window, bias)
    else:
        padded = placed(body, x, window.padding, [1] * len(window.stride), window.padding)
        forward_sums(body, padded, weight, result, window, bias)


def backward(body: Body) -> None:
    """``aten::convolution_backward``, transposed or not: the gradients that are wanted."""
    grad, x, weight = body.inputs
    window, transposed = Window.of(body.call.attributes), body.call.attributes["transposed"]
    wanted = body.call.attributes["output_mask"]
    to_x, to_weight, to_bias = (t if w else None for t, w in zip(body.outputs, wanted, strict=True))
    one = [1] * len(window.stride)
    if to_x is not None and transposed:
        padded = placed(body, grad, window.padding, one, window.padding)
        forward_sums(body, padded, weight, to_x, window, None)
    elif to_x is not None:
        _scattered(body, grad, weight, to_x, window, None)
    if to_weight is not None:
        moved, fixed = (grad, x) if transposed else (x, grad)
        padded = placed(body, moved, window.padding, one, window.padding)
        _weight_sums(body, padded, fixed, to_weight, window)
    if to_bias is not None:
        _bias_sums(body, grad, to_bias)


def placed(
    body: Body,
    x: Tensor,
    low: Sequence[int],
    step: Sequence[int],
    high: Sequence[int],
    fill: str = "0",
) -> Tensor:
    """``x`` with its pixels ``step`` apart, ``low`` cells before them and ``high`` behind."""
    sizes = [
        before + (n - 1) * s + 1 + after
        for n, before, s, after in zip(x.shape[2:], low, step, high, strict=True)
    ]
    if tuple(sizes) == tuple(x.shape[2:]) and all(s == 1 for s in step):
        return x
    room = body.transient("placed", (*x.shape[:2], *sizes), body.dtype(x))
    cells = [f"p{i}" for i in range(len(room.shape))]
    empty = dict(zip(cells, room.shape, strict=True))
    body.each("clear", empty, {}, f"__o = {fill}", {"__o": room.at(*cells)})
    pixels = dict(zip(cells, x.shape, strict=True))
    moved = [f"{b} + {s} * {c}" for b, s, c in zip(low, step, cells[2:], strict=True)]
    write = {"__o": room.at(*cells[:2], *moved)}
    body.each("place", pixels, {"__i": x.at(*cells)}, "__o = __i", write)
    return room


def forward_sums(
    body: Body,
    padded: Tensor,
    weight: Tensor,
    result: Tensor,
    window: Window,
    bias: Tensor | None,
) -> None:
    """The sums of a convolution without padding, of which the bias is the end."""
    outputs, depth = weight.shape[0] // window.groups, weight.shape[1]
    pixels = [f"o{d}" for d in window.axes]
    taps = [f"k{d}" for d in window.axes]
    at = [f"{window.stride[d]} * o{d} + {window.dilation[d]} * k{d}" for d in window.axes]
    channel = f"{outputs} * g + c"
    ranges = {"b": result.shape[0], "g": window.groups, "c": outputs}
    body.sums(
        "convolution",
        ranges | dict(zip(pixels, result.shape[2:], strict=True)),
        {"i": depth, **dict(zip(taps, weight.shape[2:], strict=True))},
        {
            "__a": padded.at("b", f"{depth} * g + i", *at),
            "__b": weight.at(channel, "i", *taps),
        },
        "__v = __a * __b",
        result.at("b", channel, *pixels),
        dtype=body.dtype(result),
        **_with_bias(bias, channel),
    )


def _with_bias(bias: Tensor | None, channel: str) -> dict[str, Any]:
    if bias is None:
        return {}
    return {"finish": "__y = __sum + __c", "beside": {"__c": bias.at(channel)}}


def _scattered(
    body: Body,
    grad: Tensor,
    weight: Tensor,
    result: Tensor,
    window: Window,
    bias: Tensor | None,
) -> None:
    """What a convolution's output sends back to its input: pixel ``i`` gets
    ``sum over k of grad[(i + padding - k * dilation) / stride] * weight[k]``."""
    reach = [d * (k - 1) for d, k in zip(window.dilation, weight.shape[2:], strict=True)]
    low = [max(0, r - p) for r, p in zip(reach, window.padding, strict=True)]
    high = [
        max(0, n - 1 + p - (m - 1) * s)
        for n, p, m, s in zip(
            result.shape[2:], window.padding, grad.shape[2:], window.stride, strict=True
        )
    ]
    spread = placed(body, grad, low, window.stride, high)
    depth, outputs = weight.shape[0] // window.groups, weight.shape[1]
    pixels, taps = [f"o{d}" for d in window.axes], [f"k{d}" for d in window.axes]
    at = [f"o{d} + {window.padding[d] + low[d]} - {window.dilation[d]} * k{d}" for d in window.axes]
    channel, row = f"{outputs} * g + c", f"{depth} * g + i"
    ranges = {"b": result.shape[0], "g": window.groups, "c": outputs}
    body.sums(
        "scattered",
        ranges | dict(zip(pixels, result.shape[2:], strict=True)),
        {"i": depth, **dict(zip(taps, weight.shape[2:], strict=True))},
        {"__a": spread.at("b", row, *at), "__b": weight.at(row, "c", *taps)},
        "__v = __a * __b",
        result.at("b", channel, *pixels),
        dtype=body.dtype(result),
        **_with_bias(bias, channel),
    )


def _weight_sums(body: Body, padded: Tensor, grad: Tensor, result: Tensor, window: Window) -> None:
    outputs, depth = result.shape[0] // window.groups, result.shape[1]
    pixels, taps = [f"o{d}" for d in window.axes], [f"k{d}" for d in window.axes]
    at = [f"{window.stride[d]} * o{d} + {window.dilation[d]} * k{d}" for d in window.axes]
    channel = f"{outputs} * g + c"
    ranges = {"g": window.groups, "c": outputs, "i": depth}
    body.sums(
        "weight_gradient",
        ranges | dict(zip(taps, result.shape[2:], strict=True)),
        {"b": grad.shape[0], **dict(zip(pixels, grad.shape[2:], strict=True))},
        {
            "__a": padded.at("b", f"{depth} * g + i", *at),
            "__b": grad.at("b", channel, *pixels),
        },
        "__v = __a * __b",
        result.at(channel, "i", *taps),
        dtype=body.dtype(result),
    )


def _bias_sums(body: Body, grad: Tensor, result: Tensor) -> None:
    pixels = [f"o{d}" for d in range(len(grad.shape) - 2)]
    body.sums(
        "bias_gradient",
        {"c": grad.shape[1]},
        {"b": grad.shape[0], **dict(zip(pixels, grad.shape[2:], strict=True))},
        {"__a": grad.at("b", "c", *pixels)},
        "__v = __a",
        result.at("c"),
        dtype=body.dtype(result),
    )
