"""Recurrent layers step by step: every gate is a linear product and an activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.errors import unknown

__all__ = ["Floats", "Texts", "gru_step", "layer", "lstm_step", "rnn_step"]

Step = Callable[..., tuple[Tensor, ...]]
Texts = Sequence[str] | None
Floats = Sequence[float] | None


def _affine(x: Tensor, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
    return alpha * x + beta


def _scaled_tanh(x: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    return alpha * torch.tanh(beta * x)


def _hard_sigmoid(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


def _thresholded(x: Tensor, alpha: float = 1.0) -> Tensor:
    return F.threshold(x, alpha, 0.0)


#: By name in lower case, with how many of the listed parameters each takes.
_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], int]] = {
    "relu": (F.relu, 0),
    "tanh": (torch.tanh, 0),
    "sigmoid": (torch.sigmoid, 0),
    "softsign": (F.softsign, 0),
    "softplus": (F.softplus, 0),
    "affine": (_affine, 2),
    "leakyrelu": (F.leaky_relu, 1),
    "thresholdedrelu": (_thresholded, 1),
    "scaledtanh": (_scaled_tanh, 2),
    "hardsigmoid": (_hard_sigmoid, 2),
    "elu": (F.elu, 1),
}


def _functions(
    names: Sequence[str], alphas: Floats, betas: Floats
) -> list[Callable[[Tensor], Tensor]]:
    """The activations, each with its own of the parameters listed."""
    first, second = list(alphas or ()), list(betas or ())
    found: list[Callable[[Tensor], Tensor]] = []
    for name in names:
        if name.lower() not in _ACTIVATIONS:
            raise unknown("activation", name, ["Relu", "Tanh", "Sigmoid", "HardSigmoid", "Elu"])
        function, count = _ACTIVATIONS[name.lower()]
        given = [first.pop(0)] if count > 0 and first else []
        given += [second.pop(0)] if count > 1 and given and second else []
        found.append(lambda x, function=function, given=tuple(given): function(x, *given))  # type: ignore[misc]
    return found


def _run(
    step: Step,
    x: Tensor,
    states: Sequence[Tensor],
    lengths: Tensor | None,
    backwards: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One direction over ``x [time, batch, input]``: every first state, and the last of each."""
    current, outputs = tuple(states), []
    times = range(x.shape[0])
    for time in reversed(times) if backwards else times:
        new = step(x[time], *current)
        if lengths is not None:
            inside = (lengths > time).unsqueeze(1)
            outputs.append(torch.where(inside, new[0], torch.zeros_like(new[0])))
            current = tuple(torch.where(inside, a, b) for a, b in zip(new, current, strict=True))
        else:
            outputs.append(new[0])
            current = new
    return torch.stack(outputs[::-1] if backwards else outputs), current


def layer(
    make: Callable[..., Step],
    count: int,
    x: Tensor,
    weights: Sequence[Tensor | None],
    lengths: Tensor | None,
    initial: Sequence[Tensor | None],
    *,
    hidden: int,
    activations: Texts,
    defaults: Sequence[str],
    alphas: Floats,
    betas: Floats,
    clip: float | None,
    direction: str,
    layout: int,
) -> tuple[Tensor, ...]:
    """All directions; ``count`` states. Outputs and states as ONNX lays them out."""
    if layout:
        x = x.transpose(0, 1)
        initial = [s if s is None else s.transpose(0, 1) for s in initial]
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    if direction not in ways:
        raise unknown("direction", direction, ways)
    names = list(activations or list(defaults) * len(ways[direction]))
    functions = _functions(names, alphas, betas)
    each = len(defaults)
    outputs: list[Tensor] = []
    finals: list[tuple[Tensor, ...]] = []
    for d, backwards in enumerate(ways[direction]):
        own = [w if w is None else w[d] for w in weights]
        states = [x.new_zeros(x.shape[1], hidden) if s is None else s[d] for s in initial]
        step = make(own, functions[d * each : (d + 1) * each], hidden, clip)
        output, final = _run(step, x, states[:count], lengths, backwards)
        outputs.append(output)
        finals.append(final)
    y = torch.stack(outputs, 1)
    last = [torch.stack(state) for state in zip(*finals, strict=True)]
    if layout:
        return (y.permute(2, 0, 1, 3), *[state.transpose(0, 1) for state in last])
    return (y, *last)


def _clipped(x: Tensor, clip: float | None) -> Tensor:
    return x if clip is None else torch.clamp(x, -clip, clip)


def _biases(bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if bias is None else tuple(bias.chunk(2))  # type: ignore[return-value]


def rnn_step(weights: Any, functions: Any, hidden: int, clip: float | None) -> Step:
    """The step of ``RNN``: one sum, one activation."""
    weight, recurrence, bias = weights
    from_input, from_state = _biases(bias)

    def step(x: Tensor, h: Tensor) -> tuple[Tensor]:
        sums = F.linear(x, weight, from_input) + F.linear(h, recurrence, from_state)
        return (functions[0](_clipped(sums, clip)),)

    return step


def lstm_step(
    weights: Any, functions: Any, hidden: int, clip: float | None, *, coupled: bool
) -> Step:
    """The step of ``LSTM``; ``coupled``: what is forgotten is what is not taken in."""
    weight, recurrence, bias, peepholes = weights
    from_input, from_state = _biases(bias)
    f, g, h_ = functions
    peep = (0, 0, 0) if peepholes is None else peepholes.chunk(3)

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        sums = F.linear(x, weight, from_input) + F.linear(h, recurrence, from_state)
        i, o, forget, cell = sums.chunk(4, 1)
        i = f(_clipped(i + peep[0] * c, clip))
        kept = 1 - i if coupled else f(_clipped(forget + peep[2] * c, clip))
        new = kept * c + i * g(_clipped(cell, clip))
        return f(_clipped(o + peep[1] * new, clip)) * h_(new), new

    return step


def gru_step(weights: Any, functions: Any, hidden: int, clip: float | None, *, after: bool) -> Step:
    """The step of ``GRU``; ``after``: reset follows the recurrent product."""
    weight, recurrence, bias = weights
    from_input, from_state = _biases(bias)
    f, g = functions
    gates, candidate = recurrence[: 2 * hidden], recurrence[2 * hidden :]
    gate_bias = None if from_state is None else from_state[: 2 * hidden]
    own_bias = None if from_state is None else from_state[2 * hidden :]

    def step(x: Tensor, h: Tensor) -> tuple[Tensor]:
        update, reset, new = F.linear(x, weight, from_input).chunk(3, 1)
        z, r = F.linear(h, gates, gate_bias).chunk(2, 1)
        z, r = f(_clipped(update + z, clip)), f(_clipped(reset + r, clip))
        if after:
            recurrent = r * F.linear(h, candidate, own_bias)
        else:
            recurrent = F.linear(r * h, candidate, own_bias)
        n = g(_clipped(new + recurrent, clip))
        return ((1 - z) * n + z * h,)

    return step
