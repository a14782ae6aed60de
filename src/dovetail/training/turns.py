"""The recipes of one model, in turn."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from torch import nn

from dovetail.emulation import recipes, switch
from dovetail.errors import DovetailError

__all__ = ["Turns"]


class Turns:
    """Gives each batch of an epoch the next recipe of a model that knows several.

    >>> import dovetail as dv
    >>> net = nn.Linear(2, 2)
    >>> _ = dv.apply_several_(net, {"a": dv.Recipe(), "b": dv.Recipe(dv.rule("*", weight="int4"))})
    >>> Turns(net).mean(lambda: len(dv.emulation.emulation_of(net).plan))
    0.5
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.names = model, recipes(model)
        if not self.names:
            raise DovetailError(
                "alternate=True: this model has no several recipes; call dv.apply_several_ first"
            )

    def take(self, batch: int) -> None:
        """The recipe of the ``batch``-th batch, counted from 0, is active."""
        switch(self.model, self.names[batch % len(self.names)])

    def mean(self, measure: Callable[[], float]) -> float:
        """The mean over all recipes; the first is active afterwards."""
        found = []
        for place in range(len(self.names)):
            self.take(place)
            found.append(measure())
        self.take(0)
        return fmean(found)
