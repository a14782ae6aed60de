"""``dv.calibrate``: the ranges of static formats, from batches that the model sees."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dovetail.calibration.observers import Observer, observer
from dovetail.emulation.scoring import Scorer
from dovetail.emulation.site import OBSERVE
from dovetail.emulation.sparsifying import set_scores
from dovetail.emulation.state import sites
from dovetail.emulation.taps import emulation_of
from dovetail.errors import DovetailError
from dovetail.formats.cast import as_integer
from dovetail.formats.quantization import scale_zero_point
from dovetail.sparsity.scores import DATA_SCORES

__all__ = ["calibrate", "gathering"]


@contextmanager
def calibrate(model: nn.Module, observer: str = "minmax") -> Iterator[None]:
    """Within, the emulated ``model`` runs without casts, and what its ranges and scores need is
    gathered; weights are sparse already, unless their scores are gathered.

    On leaving, every static integer format of an input or output gets its scale and zero point:
    from ``observer`` (``minmax``, ``percentile(99.9)``), or from the format's own
    (``int8(observer=...)``). A sparsity scored by ``wanda`` gets the norms of its inputs, one
    scored by ``gradient`` or ``movement`` the gradients of the backward passes run inside; a
    ``fixed`` mask of these is chosen then. An operation that no batch reached, or whose range is
    not finite, is an error that names it; then, as after any exception inside, everything stays as
    it was.

    >>> from dovetail.emulation import apply_
    >>> from dovetail.recipe import Recipe, rule
    >>> net = nn.Sequential(nn.Linear(2, 2))
    >>> plan = apply_(net, Recipe(rule("*", input="int8", weight="int8")))
    >>> with calibrate(net):
    ...     y = net(torch.tensor([[1.27, 0.0]]))
    >>> net[0]._dovetail_linear_input_scale
    tensor(0.0100)
    """
    with gathering(model, observer):
        yield


@contextmanager
def gathering(
    model: nn.Module, observer: str, only: Collection[str] | None = None
) -> Iterator[None]:
    """:func:`calibrate`, or of it the ranges of some operations alone, by their keys."""
    emulation = emulation_of(model)
    if emulation.status == OBSERVE:
        raise DovetailError("this model is being calibrated already")
    before = emulation.status
    emulation.observers = _observers(model, observer, only)
    emulation.scorers = _scorers(model) if only is None else {}
    emulation.status = OBSERVE
    try:
        yield
        _store(model, emulation.observers, emulation.scorers)
    finally:
        emulation.status = before
        emulation.observers = {}
        emulation.scorers = {}


def _observers(
    model: nn.Module, default: str, only: Collection[str] | None
) -> dict[tuple[str, str], Observer]:
    """One observer for every range wanted, in the order in which the example called them."""
    chosen = {}
    order = {op.key: place for place, op in enumerate(emulation_of(model).plan)}
    for site, _ in sorted(sites(model), key=lambda found: order[found[0].op.key]):
        for slot in site.buffers if only is None or site.op.key in only else ():
            fmt = as_integer(getattr(site.arithmetic, slot))
            chosen[(site.op.key, slot)] = observer(fmt.observer or default)
    if not chosen:
        observer(default)  # a misspelt observer is refused even when nothing needs one
    return chosen


def _scorers(model: nn.Module) -> dict[str, Scorer]:
    """One for every operation whose scores come of data."""
    wanted = [(s.op.key, s.sparsity) for s, _ in sites(model) if s.sparsity is not None]
    return {key: Scorer(value.score) for key, value in wanted if value.score in DATA_SCORES}


def _store(
    model: nn.Module,
    observers: dict[tuple[str, str], Observer],
    scorers: dict[str, Scorer],
) -> None:
    scores = {key: scorer.result(key) for key, scorer in scorers.items()}
    ranges = {}
    for (key, slot), seen in observers.items():
        low, high = seen.range()
        if low > high:
            raise DovetailError(f"{key}: no calibration batch reached its {slot}")
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            raise DovetailError(f"{key}: its {slot} ranged over {float(low)}..{float(high)}")
        ranges[(key, slot)] = (low, high)
    for site, module in sites(model):
        if site.op.key in scores:
            set_scores(site, module, scores[site.op.key], scorers[site.op.key].weight)
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        for slot in [slot for slot in site.buffers if (site.op.key, slot) in ranges]:
            fmt = as_integer(getattr(site.arithmetic, slot))
            low, high = ranges[(site.op.key, slot)]
            scale, zero = scale_zero_point(fmt, low.to(device), high.to(device))
            site.set_range(module, slot, scale, zero)
            site.ranges = "calibrated"
