"""``dv.approximation_errors``: approximate minus exact, of every approximated call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dovetail.emulation.operate import cast_operands
from dovetail.emulation.operators import OpCall
from dovetail.emulation.taps import Watched, emulation_of, tap
from dovetail.errors import DovetailError

if TYPE_CHECKING:
    from dovetail.emulation.planned import PlannedOp

__all__ = ["approximation_errors"]


@contextmanager
def approximation_errors(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Within, every call of an operation with ``fn=`` adds approximate minus exact to its list.

    Keys are those of the plan. Both see the same cast operands, and neither's result is cast, so
    that the error is the approximation's alone. Each call computes both once more, without a
    gradient; the model's results are what they are without this.

    >>> from dovetail.emulation import apply_
    >>> from dovetail.recipe import Recipe, rule
    >>> net, x = nn.Sequential(nn.Tanh()), torch.tensor([0.5])
    >>> plan = apply_(net, Recipe(rule(op="tanh", fn="poly2")), x)
    >>> with approximation_errors(net) as errors:
    ...     y = net(x)
    >>> errors["0"][0] == y - torch.tanh(x)
    tensor([True])
    """
    found: dict[str, list[Tensor]] = {}

    def record(op: PlannedOp, seen: Watched) -> None:
        fn = seen.site.arithmetic.fn
        if fn is None:
            return
        assert isinstance(seen.call, OpCall)
        with torch.no_grad():
            call = cast_operands(seen.site, seen.module, seen.call.without_effects())
            approximate = fn.compute(call.kind, call.operands, call.attributes)
            found.setdefault(op.key, []).append(approximate - call.exact())

    if all(op.arithmetic.fn is None for op in emulation_of(model).plan):
        raise DovetailError("no operation of this model has an approximation: give one fn= first")
    with tap(model, record):
        yield found
