"""Pruning while training: every sparse operation of a model goes from dense to its sparsity."""

from __future__ import annotations

from torch import nn

from dovetail.emulation.site import Site
from dovetail.emulation.state import sites
from dovetail.errors import DovetailError
from dovetail.sparsity import Sparsity
from dovetail.sparsity.schedules import Schedule, schedule

__all__ = ["Pruning"]


class Pruning:
    """Takes an emulated model's weights away step by step, as a schedule says.

    Call :meth:`step` after each of the ``steps`` training steps; from the schedule's end on, what
    the recipe says holds. ``schedule`` is a :class:`Schedule` or its spelling (``cubic``,
    ``linear(begin=0.1, end=0.5, every=10)``). A pattern ``n:m`` moves through whole ``n``. Refused:
    a model without sparsity, a fixed mask, a pattern that has no density.

    >>> import dovetail as dv
    >>> net = nn.Sequential(nn.Linear(8, 8, bias=False))
    >>> plan = dv.apply_(net, dv.Recipe(dv.rule("*", sparsity="1:4")))
    >>> pruning = Pruning(net, "linear(end=1.0)", steps=4)
    >>> densities = [pruning.density]
    >>> for _ in range(4):
    ...     pruning.step()
    ...     densities.append(pruning.density)
    >>> densities
    [1.0, 1.0, 0.75, 0.5, 0.25]
    """

    def __init__(self, model: nn.Module, schedule_: str | Schedule, steps: int) -> None:
        self.schedule = schedule(schedule_)
        if steps < 1:
            raise DovetailError(f"steps={steps}: pruning takes at least one")
        self.steps, self.done = steps, 0
        self.targets: list[tuple[Site, Sparsity]] = []
        for site, _ in sites(model):
            target = site.arithmetic.sparsity
            if target is not None:
                _check(site, target)
                self.targets.append((site, target))
        if not self.targets:
            raise DovetailError("there is nothing to prune: no operation of this model is sparse")
        self._set()

    def step(self) -> None:
        """One training step is done."""
        self.done += 1
        if self.done % self.schedule.every == 0 or self.done >= self.schedule.end * self.steps:
            self._set()

    def go_to(self, done: int) -> None:
        """So many training steps are done, as after an interruption."""
        self.done = done
        self._set()

    @property
    def density(self) -> float:
        """The largest share that any operation keeps now."""
        return max(_density(site.sparsity) for site, _ in self.targets)

    def finish(self) -> None:
        """What the recipe says holds from now on, however many steps were done."""
        for site, target in self.targets:
            site.set_sparsity(target)

    def _set(self) -> None:
        progress = self.done / self.steps
        for site, target in self.targets:
            now = self.schedule.density(progress, _density(target))
            site.set_sparsity(target if progress >= self.schedule.end else target.at_density(now))


def _density(value: Sparsity | None) -> float:
    assert value is not None
    assert value.density is not None
    return value.density


def _check(site: Site, target: Sparsity) -> None:
    if target.density is None:
        raise DovetailError(f"{site.op.key}: '{target}' has no density for a schedule to change")
    if target.fixed:
        raise DovetailError(
            f"{site.op.key}: the mask of '{target}' stays as it was chosen, so no schedule can act "
            "on it: leave out 'fixed'"
        )
