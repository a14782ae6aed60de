"""Recurrent layers: torch's own where it has them, else step by step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from dovetail.compiler.onnx.operators.cells import (
    Floats,
    Texts,
    gru_step,
    layer,
    lstm_step,
    rnn_step,
)
from dovetail.compiler.onnx.registry import operator


def _fused(
    kind: str,
    order: Sequence[int],
    x: Tensor,
    weights: Sequence[Tensor | None],
    initial: Sequence[Tensor | None],
    direction: str,
) -> tuple[Tensor, ...]:
    """The same by torch's own layer, whose gates come in another ``order``."""
    both = direction == "bidirectional"
    hidden = _given(weights[1]).shape[-1]
    flat: list[Tensor] = []
    for d in range(2 if both else 1):
        pairs = [_given(weights[0])[d], _given(weights[1])[d]]
        bias = weights[2]
        pairs += [] if bias is None else bias[d].chunk(2)
        for tensor in pairs:
            gates = tensor.chunk(len(order))
            flat.append(torch.cat([gates[g] for g in order]))
    zero = x.new_zeros(2 if both else 1, x.shape[1], hidden)
    states = tuple(zero if state is None else state for state in initial)
    source = x.flip(0) if direction == "reverse" else x
    options = (weights[2] is not None, 1, 0.0, False, both, False)
    if kind == "lstm":
        y, *last = torch.lstm(source, states, flat, *options)
    else:
        y, *last = getattr(torch, kind)(source, states[0], flat, *options)
    y = y.flip(0) if direction == "reverse" else y
    y = y.reshape(*y.shape[:2], 2 if both else 1, hidden).transpose(1, 2)
    return (y, *last)


def _given(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def _usual(activations: Texts, defaults: Sequence[str], *others: object) -> bool:
    """Whether torch's own layer computes it."""
    names = list(activations or defaults)
    plain = names == list(defaults) * (len(names) // len(defaults))
    return plain and all(
        other is None or (isinstance(other, int) and not other) for other in others
    )


@operator("RNN", 7, weights=(1, 2, 3))
def rnn(
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    *,
    activation_alpha: Floats = None,
    activation_beta: Floats = None,
    activations: Texts = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """``h = f(W x + R h + b)``."""
    for kind, name in (("rnn_tanh", "Tanh"), ("rnn_relu", "Relu")):
        usual = _usual(activations or ["Tanh"], [name], lengths, clip, layout)
        if usual:
            return _fused(kind, [0], x, [weight, recurrence, bias], [h], direction)
    return layer(
        rnn_step, 1, x, [weight, recurrence, bias], lengths, [h],
        hidden=recurrence.shape[-1], activations=activations, defaults=["Tanh"],
        alphas=activation_alpha, betas=activation_beta, clip=clip, direction=direction,
        layout=layout,
    )  # fmt: skip


@operator("LSTM", 7, weights=(1, 2, 3, 7))
def lstm(
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    peepholes: Tensor | None = None,
    *,
    activation_alpha: Floats = None,
    activation_beta: Floats = None,
    activations: Texts = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """Gates in the order input, output, forget, cell."""
    extra = (lengths, peepholes, clip, layout, input_forget)
    if _usual(activations, ["Sigmoid", "Tanh", "Tanh"], *extra):
        own = [weight, recurrence, bias]
        return _fused("lstm", [0, 2, 3, 1], x, own, [h, c], direction)
    return layer(
        partial(lstm_step, coupled=bool(input_forget)), 2, x,
        [weight, recurrence, bias, peepholes], lengths, [h, c],
        hidden=recurrence.shape[-1], activations=activations,
        defaults=["Sigmoid", "Tanh", "Tanh"], alphas=activation_alpha, betas=activation_beta,
        clip=clip, direction=direction, layout=layout,
    )  # fmt: skip


@operator("GRU", 7, weights=(1, 2, 3))
def gru(
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    *,
    activation_alpha: Floats = None,
    activation_beta: Floats = None,
    activations: Texts = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    """Gates in the order update, reset, hidden; reset before or after the recurrent product."""
    if linear_before_reset and _usual(activations, ["Sigmoid", "Tanh"], lengths, clip, layout):
        return _fused("gru", [1, 0, 2], x, [weight, recurrence, bias], [h], direction)
    return layer(
        partial(gru_step, after=bool(linear_before_reset)), 1, x, [weight, recurrence, bias],
        lengths, [h],
        hidden=recurrence.shape[-1], activations=activations, defaults=["Sigmoid", "Tanh"],
        alphas=activation_alpha, betas=activation_beta, clip=clip, direction=direction,
        layout=layout,
    )  # fmt: skip
