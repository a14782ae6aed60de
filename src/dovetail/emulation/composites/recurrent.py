"""Recurrent layers and cells taken apart into linear products and the functions of their gates.

Each layer and direction has two products (three with ``proj_size``), numbered in the order in which
torch holds the weights: ``linear_0`` the first layer's input product, over the whole sequence at
once; ``linear_1`` its hidden product, at every step; then ``linear_2`` the projection, if there is
one; then the first layer's other direction, then the second layer.

In the same order come the functions, each at every step: an LSTM's ``sigmoid_0`` to ``sigmoid_2``
(input, forget and output gate), ``tanh_0`` (candidate) and ``tanh_1`` (of the cell); a GRU's
``sigmoid_0`` and ``sigmoid_1`` (reset and update gate) and ``tanh_0`` (candidate); a plain layer's
``tanh_0`` or ``relu_0``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.emulation.composites.base import Products, Unfused
from dovetail.emulation.operators.base import OpCall

__all__ = ["cell", "kinds", "layers"]

State = tuple[Tensor, ...]  # (h, c) of an LSTM, else (h,)


class _Gates(NamedTuple):
    """The functions of one layer in one direction; ``part`` numbers these."""

    name: str
    products: Products
    part: int

    def __call__(self, kind: str, number: int, x: Tensor) -> Tensor:
        index = self.part * _FUNCTIONS[self.name][kind] + number
        return self.products.perform(index, OpCall(kind, {"input": x}, getattr(torch, kind)))


def _lstm(f: _Gates, gates: Tensor, hidden: Tensor, state: State) -> State:
    into, forget, candidate, out = (gates + hidden).chunk(4, -1)
    c = f("sigmoid", 1, forget) * state[1] + f("sigmoid", 0, into) * f("tanh", 0, candidate)
    return f("sigmoid", 2, out) * f("tanh", 1, c), c


def _gru(f: _Gates, gates: Tensor, hidden: Tensor, state: State) -> State:
    (ri, zi, ni), (rh, zh, nh) = gates.chunk(3, -1), hidden.chunk(3, -1)
    z = f("sigmoid", 1, zi + zh)
    n = f("tanh", 0, ni + f("sigmoid", 0, ri + rh) * nh)
    return ((state[0] - n) * z + n,)


def _tanh(f: _Gates, gates: Tensor, hidden: Tensor, state: State) -> State:
    del state
    return (f("tanh", 0, gates + hidden),)


def _relu(f: _Gates, gates: Tensor, hidden: Tensor, state: State) -> State:
    del state
    return (f("relu", 0, gates + hidden),)


_STEPS: dict[str, Callable[[_Gates, Tensor, Tensor, State], State]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _tanh,
    "rnn_relu": _relu,
}

#: How often a layer in one direction calls which function.
_FUNCTIONS: dict[str, dict[str, int]] = {
    "lstm": {"sigmoid": 3, "tanh": 2},
    "gru": {"sigmoid": 2, "tanh": 1},
    "rnn_tanh": {"tanh": 1},
    "rnn_relu": {"relu": 1},
}


def kinds(name: str) -> tuple[str, ...]:
    """The kinds of operation inside ``torch.<name>``.

    >>> kinds("gru")
    ('linear', 'sigmoid', 'tanh')
    """
    return ("linear", *_FUNCTIONS[name])


class _Weights(NamedTuple):
    """Of one layer in one direction; ``part`` numbers these, ``first`` its first product."""

    part: int
    first: int
    input: Tensor
    hidden: Tensor
    input_bias: Tensor | None
    hidden_bias: Tensor | None
    projection: Tensor | None


def _weights(params: Sequence[Tensor], parts: int, biases: bool) -> list[_Weights]:
    """The flat list of parameters, layer by layer and direction by direction."""
    size = len(params) // parts
    found = []
    for i in range(parts):
        own = params[i * size : (i + 1) * size]
        first, second = (own[2], own[3]) if biases else (None, None)
        projection = own[-1] if size == (5 if biases else 3) else None
        number = i * (2 if projection is None else 3)
        found.append(_Weights(i, number, own[0], own[1], first, second, projection))
    return found


def layers(name: str) -> Callable[[tuple[Any, ...], dict[str, Any]], Unfused | None]:
    """How ``torch.<name>`` is read, over padded or over packed sequences."""

    def padded(
        input: Tensor,
        hx: Any,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool = False,
    ) -> Unfused | None:
        if input.dim() != 3 or 0 in input.shape:
            return None

        def run(products: Products) -> tuple[Tensor, ...]:
            x = input.transpose(0, 1) if batch_first else input
            sizes = [x.shape[1]] * x.shape[0]
            y, *states = _stack(
                name, products, x.flatten(0, 1), sizes, _states(hx), weights, rate, directions
            )
            y = y.unflatten(0, x.shape[:2])
            return (y.transpose(0, 1) if batch_first else y, *states)

        directions = 2 if bidirectional else 1
        weights = _weights(params, num_layers * directions, has_biases)
        rate = dropout if train else 0.0
        return Unfused(_counts(name, weights), run)

    def packed(
        data: Tensor,
        batch_sizes: Tensor,
        hx: Any,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> Unfused | None:
        def run(products: Products) -> tuple[Tensor, ...]:
            sizes: list[int] = batch_sizes.tolist()
            return _stack(name, products, data, sizes, _states(hx), weights, rate, directions)

        directions = 2 if bidirectional else 1
        weights = _weights(params, num_layers * directions, has_biases)
        rate = dropout if train else 0.0
        return Unfused(_counts(name, weights), run)

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Unfused | None:
        third = args[3] if len(args) > 3 else kwargs.get("has_biases", True)
        return (padded if isinstance(third, bool) else packed)(*args, **kwargs)

    return read


def _counts(name: str, weights: list[_Weights]) -> dict[str, int]:
    products = sum(2 if w.projection is None else 3 for w in weights)
    return {"linear": products, **{k: n * len(weights) for k, n in _FUNCTIONS[name].items()}}


def _states(hx: Any) -> State:
    """The initial states, each ``[layers * directions, batch, width]``."""
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


def _stack(
    name: str,
    products: Products,
    x: Tensor,
    sizes: list[int],
    initial: State,
    weights: list[_Weights],
    dropout: float,
    directions: int,
) -> tuple[Tensor, ...]:
    """All layers over the rows of ``x``, ``sizes[t]`` of which belong to step ``t``."""
    finals: list[State] = []
    for place in range(0, len(weights), directions):
        if place and dropout > 0:
            x = F.dropout(x, dropout, True)
        outs = []
        for d in range(directions):
            state = tuple(s[place + d] for s in initial)
            y, final = _direction(name, products, x, sizes, state, weights[place + d], d == 1)
            outs.append(y)
            finals.append(final)
        x = torch.cat(outs, -1) if directions > 1 else outs[0]
    return (x, *(torch.stack(states) for states in zip(*finals, strict=True)))


def _direction(
    name: str,
    products: Products,
    x: Tensor,
    sizes: list[int],
    initial: State,
    w: _Weights,
    backwards: bool,
) -> tuple[Tensor, State]:
    """One layer in one direction: its output's rows, and its state after the last step.

    Sequences are sorted by length, so the rows still running are always the first ones.
    """
    steps = list(products.linear(w.first, x, w.input, w.input_bias).split(sizes))
    order = range(len(steps) - 1, -1, -1) if backwards else range(len(steps))
    state = tuple(s[: sizes[order[0]]] for s in initial)
    outs: dict[int, Tensor] = {}
    ended: list[State] = []
    for t in order:
        running = state[0].shape[0]
        if sizes[t] < running:
            ended.append(tuple(s[sizes[t] :] for s in state))
            state = tuple(s[: sizes[t]] for s in state)
        elif sizes[t] > running:
            state = tuple(
                torch.cat([s, first[running : sizes[t]]])
                for s, first in zip(state, initial, strict=True)
            )
        state = _step(name, products, steps[t], state, w)
        outs[t] = state[0]
    final = tuple(
        torch.cat([s, *(parts[i] for parts in reversed(ended))]) if ended else s
        for i, s in enumerate(state)
    )
    return torch.cat([outs[t] for t in range(len(steps))]), final


def _step(name: str, products: Products, gates: Tensor, state: State, w: _Weights) -> State:
    hidden = products.linear(w.first + 1, state[0], w.hidden, w.hidden_bias)
    state = _STEPS[name](_Gates(name, products, w.part), gates, hidden, state)
    if w.projection is None:
        return state
    return (products.linear(w.first + 2, state[0], w.projection, None), *state[1:])


def cell(name: str) -> Callable[..., Unfused | None]:
    """How ``torch.<name>_cell`` is read: ``linear_0`` is its input product, ``linear_1`` hidden."""

    def read(
        input: Tensor,
        hx: Any,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Unfused | None:
        weights = _Weights(0, 0, w_ih, w_hh, b_ih, b_hh, None)

        def run(products: Products) -> Any:
            gates = products.linear(0, input, w_ih, b_ih)
            state = _step(name, products, gates, _states(hx), weights)
            return state if len(state) > 1 else state[0]

        return Unfused(_counts(name, [weights]), run)

    return read
