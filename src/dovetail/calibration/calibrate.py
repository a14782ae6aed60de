"""``dv.calibrate``: the ranges of static formats, from batches that the model sees."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dovetail.calibration.gathered import Calibration, Gathered
from dovetail.emulation.scoring import Scorer
from dovetail.emulation.site import OBSERVE, Site
from dovetail.emulation.sparsifying import set_scores
from dovetail.emulation.state import sites
from dovetail.emulation.taps import emulation_of
from dovetail.errors import DovetailError
from dovetail.formats.cast import as_integer
from dovetail.formats.observers import observer as make_observer
from dovetail.formats.quantization import scale_zero_point
from dovetail.sparsity.scores import DATA_SCORES

__all__ = ["calibrate", "gathering"]


@contextmanager
def calibrate(model: nn.Module, observer: str = "minmax") -> Iterator[Calibration]:
    """Within, the emulated ``model`` runs without casts, and what its ranges and scores need is
    gathered; weights are sparse already, unless their scores are gathered.

    On leaving, every static integer format of an input or output gets its scale and zero point:
    from ``observer``, or from the format's own (``int8(observer=...)``). There are ``minmax``;
    ``moving_average(0.9)`` of the batches' extremes; ``percentile(99.9)``; ``mse`` and ``l2``, the
    least squared error; ``entropy``, the least Kullback-Leibler divergence
    (:mod:`dovetail.formats.observers`). Of the batches they keep extremes or a histogram. A format
    with ``channel=`` gets one range per index of that axis.

    A sparsity scored by ``wanda`` gets the norms of its inputs, one scored by ``gradient`` or
    ``movement`` the gradients of the backward passes run inside; a ``fixed`` mask of these is
    chosen then. An operation that no batch reached, or whose range is not finite or a single
    number, is an error that names it; then, as after any exception inside, everything stays as it
    was. ``dv.state`` saves the ranges.

    Yields a :class:`Calibration`: ``over(batches)`` shows a progress bar, and printed afterwards it
    is the table of ranges.

    >>> from dovetail.emulation import apply_
    >>> from dovetail.recipe import Recipe, rule
    >>> net = nn.Sequential(nn.Linear(2, 2))
    >>> plan = apply_(net, Recipe(rule("*", input="int8", weight="int8")))
    >>> with calibrate(net) as found:
    ...     for batch in found.over([torch.tensor([[1.27, 0.0]]), torch.tensor([[-0.5, 0.1]])]):
    ...         y = net(batch)
    >>> [(one.op, one.slot, one.low, one.high) for one in found.ranges]
    [('0', 'input', -0.5, 1.2699999809265137)]
    >>> net[0]._dovetail_linear_input_scale
    tensor(0.0100)
    """
    with gathering(model, observer) as found:
        yield found


@contextmanager
def gathering(
    model: nn.Module, observer: str, only: Collection[str] | None = None
) -> Iterator[Calibration]:
    """:func:`calibrate`, or of it the ranges of some operations alone, by their keys."""
    emulation = emulation_of(model)
    if emulation.status == OBSERVE:
        raise DovetailError("this model is being calibrated already")
    before = emulation.status
    gathered = _gathered(model, observer, only)
    emulation.observers = {(one.key, one.slot): one for one in gathered}
    emulation.scorers = _scorers(model) if only is None else {}
    emulation.status = OBSERVE
    found = Calibration()
    try:
        yield found
        # Few rows, turned by a recipe, may well be one number.
        ranges = {(one.key, one.slot): one.range(varied=only is None) for one in gathered}
        _store(model, ranges, emulation.scorers)
        found.ranges = tuple(one.calibrated() for one in gathered)
    finally:
        emulation.status = before
        emulation.observers = {}
        emulation.scorers = {}


def _gathered(model: nn.Module, default: str, only: Collection[str] | None) -> list[Gathered]:
    """One for every range wanted, in the order in which the example called them."""
    make_observer(default)  # a misspelt observer is refused even when nothing needs one
    order = {op.key: place for place, op in enumerate(emulation_of(model).plan)}
    chosen = sorted(sites(model), key=lambda found: order[found[0].op.key])
    return [
        Gathered.of(site.op.key, slot, as_integer(getattr(site.arithmetic, slot)), default)
        for site, _ in chosen
        if only is None or site.op.key in only
        for slot in site.buffers
    ]


def _scorers(model: nn.Module) -> dict[str, Scorer]:
    """One for every operation whose scores come of data."""
    wanted = [(s.op.key, s.sparsity) for s, _ in sites(model) if s.sparsity is not None]
    return {key: Scorer(value.score) for key, value in wanted if value.score in DATA_SCORES}


def _store(
    model: nn.Module,
    ranges: dict[tuple[str, str], tuple[Tensor, Tensor]],
    scorers: dict[str, Scorer],
) -> None:
    """Everything is found, and refused, before anything is stored."""
    scores = {key: scorer.result(key) for key, scorer in scorers.items()}
    for site, module in sites(model):
        if site.op.key in scores:
            set_scores(site, module, scores[site.op.key], scorers[site.op.key].weight)
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        for slot in _ranged(site, ranges):
            fmt = as_integer(getattr(site.arithmetic, slot))
            low, high = (end.to(device) for end in ranges[(site.op.key, slot)])
            site.set_range(module, slot, *scale_zero_point(fmt, low, high))
            site.ranges = "calibrated"


def _ranged(site: Site, ranges: Collection[tuple[str, str]]) -> list[str]:
    return [slot for slot in site.buffers if (site.op.key, slot) in ranges]
