"""The block of a transformer before a norm, and the size that its weights give the input."""

from __future__ import annotations

import torch
from torch import Tensor

from dovetail.emulation.seen import Place
from dovetail.recovery.flow import Flow
from dovetail.recovery.operations import Operation, Operations, weight_offset

__all__ = ["Blocks"]

_NORMS = ("layer_norm", "rms_norm")


class Blocks:
    """Which block stands before which norm, by what one run showed."""

    def __init__(self, found: Operations, flowing: Flow) -> None:
        self.ops, self.flow = found.by_place, flowing

    def size_before(self, norm: Operation) -> tuple[float | None, str]:
        """The estimated size of a norm's input; ``None``, and why, if no block is known."""
        ends = self._ends(norm)
        if len(ends) != 1:
            return None, "no one linear layer ends a block before it"
        (end,) = ends
        first = self._firsts(end.place, "input")
        gains = {g.place: g for op in first for g in self._norms(op)}
        if len(gains) != 1 or any(len(self._norms(op)) != 1 for op in first):
            return None, f"the block that {end.key} ends does not begin with one norm"
        (gain,) = gains.values()
        if end.weight is None or any(op.weight is None for op in first):
            return None, f"the block that {end.key} ends has weights that are computed"
        g = _gain(gain, end.weight.read().shape[0])
        if g is None:
            return None, f"{gain.key} computes more than a norm does"
        product = self._product(end.place)
        if product is not None:
            return self._attention(end, product, g)
        size = self._feed_forward(end, first, g)
        if size is None:
            return None, f"the block that {end.key} ends is of no known form"
        return (size, "") if size > 0 else (None, "the weights before it are zero")

    def _ends(self, norm: Operation) -> list[Operation]:
        """The linear layers that are a term of the norm's input themselves."""
        places = self.flow.origins(norm.place)
        for add in [p for p in places if self.ops[p].kind == "add"]:
            places |= self.flow.origins(add, "input") | self.flow.origins(add, "other")
        return [op for place, op in self.ops.items() if place in places and op.kind == "linear"]

    def _back(self, place: Place) -> set[Place]:
        """What an operation's activations were made from."""
        slots = [slot for slot in self.ops[place].shapes if slot not in ("output", "bias")]
        return {origin for slot in slots for origin in self.flow.origins(place, slot)}

    def _firsts(self, place: Place, slot: str) -> list[Operation]:
        """The nearest linear layers behind an operand."""
        found: dict[Place, None] = {}
        seen: set[Place] = set()
        waiting = self.flow.origins(place, slot)
        while waiting:
            each = waiting.pop()
            if each in seen or self.ops[each].kind in _NORMS:
                continue
            seen.add(each)
            if self.ops[each].kind == "linear":
                found[each] = None
            else:
                waiting |= self._back(each)
        return [op for p, op in self.ops.items() if p in found]

    def _norms(self, op: Operation) -> list[Operation]:
        places = self.flow.origins(op.place)
        return [self.ops[p] for p in places if self.ops[p].kind in _NORMS]

    def _product(self, end: Place) -> Operation | None:
        """The matmul of weights and values, if the block is one of attention."""
        places = {p for p in self.flow.origins(end) if self.ops[p].kind != "linear"}
        found = [self.ops[p] for p in places if self.ops[p].kind == "matmul"]
        return found[0] if len(found) == 1 else None

    def _attention(
        self, end: Operation, product: Operation, gain: Tensor
    ) -> tuple[float | None, str]:
        values = self._firsts(product.place, "weight")
        assert end.weight is not None
        o = end.weight.read().double()
        if len(values) == 1 and self.flow.parted(product.place, "weight"):
            return None, f"{values[0].key} gives more than the values of {product.key}"
        if len(values) != 1 or values[0].weight is None:
            return None, f"the values of {product.key} come from no one linear layer"
        v = values[0].weight.read().double()
        width, heads = product.shapes["output"][-1], o.shape[1] // max(1, len(v))
        if v.shape[1] != len(gain) or heads * len(v) != o.shape[1] or len(v) % width:
            return None, f"{values[0].key} gives more than the values of {product.key}"
        v = v.unflatten(0, (-1, width)).repeat_interleave(heads, 0).flatten(0, 1)
        whole = o @ v + torch.eye(len(o), dtype=o.dtype, device=o.device)
        return float(torch.linalg.matrix_norm(whole * gain)), ""

    def _feed_forward(self, end: Operation, first: list[Operation], gain: Tensor) -> float | None:
        weights = [op.weight.read().double() for op in first if op.weight is not None]
        assert end.weight is not None
        down = end.weight.read().double()
        if any(w.shape != (down.shape[1], len(gain)) for w in weights):
            return None
        if len(weights) == 1:
            spectral = float(_spectral(weights[0]) * _spectral(down))
            return float(gain.abs().mean()) * spectral
        gate = self._gate(end, first)
        if len(weights) != 2 or gate is None:
            return None
        up = weights[1 - gate]
        size = torch.linalg.matrix_norm(down @ (up * gain)) * _spectral(weights[gate] * gain)
        return float(size)

    def _gate(self, end: Operation, first: list[Operation]) -> int | None:
        """Which of two linear layers goes through an activation before they are multiplied."""
        products = [p for p in self.flow.origins(end.place) if self.ops[p].kind == "mul"]
        if len(products) != 1:
            return None
        direct = self.flow.origins(products[0], "input") | self.flow.origins(products[0], "other")
        through = [i for i, op in enumerate(first) if op.place not in direct]
        return through[0] if len(through) == 1 else None


def _gain(norm: Operation, width: int) -> Tensor | None:
    """What a norm multiplies each channel by."""
    offset = weight_offset(norm)
    if norm.weight is None or offset is None:
        return None if offset is None else torch.ones(width, dtype=torch.float64)
    return norm.weight.read().double().flatten() + offset


def _spectral(weight: Tensor) -> Tensor:
    found: Tensor = torch.linalg.matrix_norm(weight, 2)
    return found
