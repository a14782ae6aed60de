"""Functions that hide products: taken apart when a rule touches one, left alone when none does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.emulation.composites import attention, recurrent, rotary, sums
from dovetail.emulation.composites.base import Composite, Products, Unfused, binder
from dovetail.emulation.operators.base import packet

__all__ = ["COMPOSITES", "Composite", "Products", "Unfused"]

_aten = torch.ops.aten
Read = Callable[[tuple[Any, ...], dict[str, Any]], Unfused | None]


def _each(
    functions: Iterable[Any], name: str, kinds: Iterable[str], read: Read
) -> dict[Any, Composite]:
    return dict.fromkeys(functions, Composite(name, frozenset(kinds), read))


def _recurrent() -> dict[Any, Composite]:
    found: dict[Any, Composite] = {}
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        single = name + "_cell"
        functions = [getattr(torch, name), *packet(name)]
        found |= _each(functions, name, recurrent.kinds(name), recurrent.layers(name))
        cells = [getattr(torch, single), *packet(single)]
        found |= _each(cells, single, recurrent.kinds(name), binder(recurrent.cell(name)))
    return found


def _baddbmm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Unfused | None:
    names = {"self": "input", "batch1": "first", "batch2": "second"}
    named = {names.get(k, k): v for k, v in kwargs.items() if not (k == "out" and v is None)}
    return _added(args, named)


_added = binder(sums.added)

#: What attention does between its products.
_BETWEEN = ("mul", "add", "softmax", "dropout")

#: Every function that is taken apart, and how.
COMPOSITES: dict[Any, Composite] = {
    **_each(
        [F.scaled_dot_product_attention, *packet("scaled_dot_product_attention")],
        "scaled_dot_product_attention",
        ["matmul", *_BETWEEN],
        binder(attention.scaled_dot_product),
    ),
    **_each(
        [F.multi_head_attention_forward],
        "multi_head_attention",
        ["linear", "matmul", *_BETWEEN],
        binder(attention.multi_head),
    ),
    **_recurrent(),
    **_each(
        [torch.baddbmm, Tensor.baddbmm, _aten.baddbmm, _aten.baddbmm.default],
        "baddbmm",
        ["matmul"],
        _baddbmm,
    ),
    **_each(
        {torch.einsum, torch.functional.einsum, _aten.einsum, _aten.einsum.default},
        "einsum",
        ["matmul"],
        lambda args, kwargs: None if kwargs else sums.einsum(*args),
    ),
    **_each([rotary.ROTATE], "apply_rotary_pos_emb", [rotary.ROTATE], rotary.read),
}
