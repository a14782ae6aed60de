"""How good the model is while it trains, and when that is good enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dovetail._batches import mode
from dovetail._numbers import is_number
from dovetail.emulation.taps import exact
from dovetail.errors import DovetailError, unknown
from dovetail.training.group import Group, unwrapped

__all__ = ["Evaluation"]

_GOALS = ("max", "min")


class Evaluation:
    """``evaluate(model)``, or ``metric(model, loader)`` of a pair ``(loader, metric)``: a number,
    or something with one as its ``value``.

    It runs in eval mode, without gradients, and leaves torch's random generators as they were, so
    that to look changes nothing. Several processes take the mean of theirs.

    >>> alone = Group(torch.device("cpu"))
    >>> Evaluation(lambda net: net.bias.item(), None, "max", alone)(nn.Linear(1, 1, bias=True)) < 2
    True
    """

    def __init__(self, evaluate: Any, budget: float | None, goal: str, group: Group) -> None:
        if not isinstance(goal, str) or goal not in _GOALS:
            raise unknown("goal", goal, _GOALS)
        if budget is not None and not (is_number(budget) and budget >= 0):
            raise DovetailError(f"budget={budget!r}: how far from the exact model is still good")
        self._measure = _measure(evaluate)
        self.budget, self.goal, self.group = budget, goal, group

    def __call__(self, model: nn.Module) -> float:
        """The number for the model as it is."""
        device = self.group.device
        devices = [device] if device.type == "cuda" else []
        with mode(model, training=False), torch.no_grad(), torch.random.fork_rng(devices=devices):
            found = self._measure(model)
        value = getattr(found, "value", found)
        try:
            return self.group.mean(float(value))
        except (TypeError, ValueError):
            raise DovetailError(f"evaluate gave {found!r}: it gives a number") from None

    def exact(self, model: nn.Module) -> float:
        """The number for the model without its emulation."""
        with exact(unwrapped(model)):
            return self(model)

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether ``value`` is strictly better; NaN never is, and anything is better than it."""
        if math.isnan(value):
            return False
        if than is None or math.isnan(than):
            return True
        return value > than if self.goal == "max" else value < than

    def is_enough(self, value: float, exact: float | None) -> bool:
        """Whether ``value`` is within the budget of the exact model's."""
        if self.budget is None or exact is None:
            return False
        lost = exact - value if self.goal == "max" else value - exact
        return lost <= self.budget


def _measure(evaluate: Any) -> Callable[[nn.Module], Any]:
    if callable(evaluate):
        return evaluate  # type: ignore[no-any-return]
    if isinstance(evaluate, (tuple, list)) and len(evaluate) == 2 and callable(evaluate[1]):
        loader, metric = evaluate
        return lambda model: metric(model, loader)
    raise DovetailError(
        f"evaluate={evaluate!r}: give a function of the model, or (loader, metric) with a function "
        "metric(model, loader), such as (loader, dv.analysis.accuracy)"
    )
