"""``dv.attribute``: which operation, and which source of error in it, costs what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dovetail._batches import mode as in_mode
from dovetail._numbers import is_whole
from dovetail.analysis.attribution.checkpoint import Checkpoint
from dovetail.analysis.attribution.chosen import Chosen, chosen
from dovetail.analysis.attribution.exact import TAILS, Exact
from dovetail.analysis.attribution.first_order import FirstOrder, Loss, Predicted
from dovetail.analysis.attribution.inspected import Inspected, inspect
from dovetail.analysis.attribution.kept import kept_buffers
from dovetail.analysis.attribution.reading import first_rows, no_sample, read
from dovetail.analysis.attribution.result import Attribution
from dovetail.analysis.attribution.rows import AttributionRow, OpSummary
from dovetail.analysis.attribution.scores import (
    check_metric,
    check_resampled,
    metric_for,
    weights,
)
from dovetail.emulation.taps import apart, emulation_of
from dovetail.errors import DovetailError, unknown

__all__ = ["attribute", "first_order"]

_MODES = ("exact", "first_order")

#: Is told how many passes are done, and of how many if that is known.
Progress = Callable[[int, "int | None"], None]


def attribute(
    model: nn.Module,
    loader: Iterable[Any],
    metric: Any = None,
    *,
    mode: str = "exact",
    select: str | Sequence[str] = "*",
    sources: Sequence[str] | None = None,
    loss: Loss | None = None,
    disable: bool = True,
    resamples: int = 1000,
    seed: int = 0,
    inspected: int = 64,
    cache: bool = True,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """What every source of error of every operation of an emulated model costs.

    Sources are ``sparsity``, the casts of ``input``, ``weight``, ``bias`` and ``output``, the
    multiplier ``mul``, the accumulator ``acc`` and the approximation ``fn``: those that the recipe
    gives an operation. Each is enabled alone, everything else exact, and (unless ``disable`` is
    False) made exact alone, everything else emulated. A multiplier of codes, and a register that
    sums their products, need both operands' codes: enabled alone, what they do to the codes is
    added to the exact result, and they go with an operand whose cast is disabled (the row says
    ``with mul``). All sources of one operation are enabled, and disabled, together as well
    (``by_op``). ``select`` keeps to operations that one of these patterns matches, as rules have
    them, ``sources`` to sources of these names.

    ``loader`` gives batches ``(inputs..., target)``. ``metric`` is ``"accuracy"``, ``"loss"`` (the
    mean cross entropy), ``"perplexity"``, or any ``metric(model, loader)`` that gives a number, or
    something with one as its ``value``; it is called with what the model gave, as a model that
    passes it on. Default: perplexity for a class for every token, accuracy for all other classes.

    ``mode="exact"`` runs one pass for every item, from the operation that it changes on: what
    comes before is taken from the recorded whole pass, as long as the model's forward pass is a
    function of its inputs, its tensors and torch's generator (``cache=False`` asks for nothing).
    ``mode="first_order"`` runs one pass with gradients and predicts the change of the mean loss for
    small errors, of ``loss(output, target)`` if given: see :func:`dovetail.analysis.first_order`.

    Intervals are those between the 2.5 % and the 97.5 % quantile of ``resamples`` paired bootstrap
    resamples of the samples, drawn with ``seed``; 0 gives none. On the first ``inspected`` samples
    casts and registers are counted, changed products too, and histograms made; 0 leaves that out.

    ``checkpoint`` is a file to save to as batches are measured: the same call, made again after an
    interruption, goes on where it stopped and ends with the same numbers, if the loader gives the
    same batches. A file that is damaged, or of another attribution, is refused.

    The model runs in eval mode. Its tensors, modes, ranges and counters and torch's generators
    are left as they were found, also when an error or Ctrl-C ends it.

    >>> import dovetail as dv
    >>> net, x = nn.Sequential(nn.Linear(4, 2)), torch.eye(4)
    >>> _ = net[0].weight.data.copy_(torch.tensor([[8.0, 3.0, 8.0, 3.0], [1.0, 2.9, 1.0, 2.9]]))
    >>> _ = net[0].bias.data.zero_()
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule("*", input="int8", weight="int2")), x)
    >>> found = attribute(net, [(x, torch.tensor([0, 0, 0, 0]))])
    >>> found.exact_metric, [(row.source, row.delta_metric) for row in found.sorted()]
    (1.0, [('weight', -0.5), ('input', 0.0)])
    """
    if mode not in _MODES:
        raise unknown("mode of attribution", mode, _MODES)
    if loss is not None and mode == "exact":
        raise DovetailError("loss is what mode='first_order' differentiates; give metric here")
    if metric is not None and mode == "first_order":
        raise DovetailError(
            "mode='first_order' differentiates the loss and takes no metric: leave it out, or give "
            "another loss"
        )
    if checkpoint is not None and mode == "first_order":
        raise DovetailError("mode='first_order' is one pass: checkpoint is for mode='exact'")
    check_metric(metric)
    emulation_of(model)
    for name, number in (("resamples", resamples), ("seed", seed), ("inspected", inspected)):
        if not is_whole(number) or number < 0:
            raise DovetailError(f"{name}={number!r}: {name} is a whole number, 0 or more")
    asked = _Asked(loader, chosen(model, select, sources), resamples, seed, inspected, progress)
    with _undisturbed(model):
        if mode == "first_order":
            return _predicted(model, asked, FirstOrder(model, asked.items, loss, seed))
        begin = partial(Exact, model, asked.items, disable=disable, cache=cache)
        return _measured(model, asked, metric, begin, checkpoint)


def first_order(
    model: nn.Module, batches: Iterable[Any], *, loss: Loss | None = None, seed: int = 0
) -> dict[tuple[str, str], float]:
    """The change of the mean loss that each source of each operation is predicted to make alone.

    One pass over ``batches`` of ``(inputs..., target)``, with gradients, of the exact model: the
    sum of the local error times the loss's gradient, and, for the cross entropy, half of the error
    squared in its Gauss-Newton matrix, which is taken from one random projection of each logit
    (``seed``). Good for small errors, and for telling small from large; what saturates or wraps is
    underestimated. Sources are as for :func:`dovetail.attribute`; the model is left as it was.

    >>> import dovetail as dv
    >>> net, x = nn.Sequential(nn.Linear(4, 3)), torch.eye(4)
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule("*", input="int8", weight="int2")), x)
    >>> list(first_order(net, [(x, torch.tensor([0, 1, 2, 0]))]))
    [('0', 'input'), ('0', 'weight')]
    """
    emulation_of(model)
    with _undisturbed(model):
        found = FirstOrder(model, chosen(model), loss, seed)
        for inputs, target in read(model, batches):
            found.add(inputs, target)
    if not found.samples:
        raise no_sample()
    found.check()
    return {(each.site.op.key, each.source): found.mean(each.total) for each in found.predicted}


@dataclass
class _Asked:
    """What both modes are asked for."""

    loader: Iterable[Any]
    items: Chosen
    resamples: int
    seed: int
    inspected: int
    progress: Progress | None
    done: int = 0

    def tick(self, each: int, passes: int = 1) -> None:
        """So many passes are done, of ``each`` for a batch."""
        self.done += passes
        if self.progress is not None:
            sized = isinstance(self.loader, Sized)
            self.progress(self.done, len(self.loader) * each if sized else None)  # type: ignore[arg-type]


def _measured(
    model: nn.Module,
    asked: _Asked,
    metric: Any,
    begin: Callable[..., Exact],
    checkpoint: str | Path | None,
) -> Attribution:
    found: Exact | None = None
    saved: Checkpoint | None = None
    looked = Inspected()
    for inputs, target in read(model, asked.loader):
        if found is None:
            output = model(*inputs)
            judged = metric_for(metric, output, target)
            if asked.resamples:
                check_resampled(judged, output, target)
            looked = _looked_at(model, inputs, asked)
            found = begin(metric=judged)
            saved = Checkpoint(checkpoint, found) if checkpoint is not None else None
        tick = partial(asked.tick, found.passes)
        if saved is not None and saved.has(inputs, target):
            tick(found.passes)
            continue
        found.add(inputs, target, tick)
        if saved is not None:
            saved.write()
    if found is None:
        raise no_sample()
    return Attribution(
        mode="exact",
        metric=found.metric.name,
        higher_is_better=found.metric.higher_is_better,
        samples=found.samples,
        exact_metric=found.exact.value(found.metric),
        emulated_metric=found.emulated.value(found.metric),
        exact_loss=found.exact.loss,
        emulated_loss=found.emulated.loss,
        rows=tuple(found.rows(looked, asked.resamples, asked.seed)),
        ops=tuple(found.ops(looked, asked.resamples, asked.seed)),
        histograms=looked.histograms,
        resamples=asked.resamples,
        seed=asked.seed,
    )


def _predicted(model: nn.Module, asked: _Asked, found: FirstOrder) -> Attribution:
    looked = Inspected()
    for inputs, target in read(model, asked.loader):
        if not found.samples:
            looked = _looked_at(model, inputs, asked)
        found.add(inputs, target)
        asked.tick(1)
    if not found.samples:
        raise no_sample()
    found.check()
    return Attribution(
        mode="first_order",
        metric="loss",
        higher_is_better=False,
        samples=found.samples,
        exact_metric=found.exact_loss,
        emulated_metric=found.emulated_loss,
        exact_loss=found.exact_loss,
        emulated_loss=found.emulated_loss,
        rows=tuple(_predicted_row(each, found, looked, asked) for each in found.predicted),
        ops=tuple(
            OpSummary(key, found.found[key][0].site.op.kind, **looked.ratios.get(key, {}))
            for key in found.order
            if found.found[key]
        ),
        histograms=looked.histograms,
        resamples=asked.resamples,
        seed=asked.seed,
    )


def _predicted_row(
    found: Predicted, of: FirstOrder, looked: Inspected, asked: _Asked
) -> AttributionRow:
    low = high = None
    if asked.resamples and found.samples is not None:
        both = np.stack([torch.cat(found.samples).numpy(), torch.cat(of.counts).numpy()], 1)
        drawn = np.concatenate(
            [some @ both for some in weights(of.samples, asked.resamples, asked.seed)]
        )
        with np.errstate(invalid="ignore"):  # of a resample in which every target is ignored
            low, high = map(float, np.percentile(drawn[:, 0] / drawn[:, 1], TAILS))
    delta = of.mean(found.total)
    return AttributionRow(
        op=found.site.op.key,
        kind=found.site.op.kind,
        source=found.source,
        value=found.value,
        isolated_sqnr_db=found.isolated.sqnr_db,
        accumulated_sqnr_db=None,
        delta_metric=delta,
        ci_low=low,
        ci_high=high,
        delta_loss=delta,
        isolated_cosine=found.isolated.cosine,
        accumulated_kl=None if found.bend is None else of.mean(found.bend),
        **looked.of(found.site.op.key, found.source),
    )


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, and nobody watching; modes, buffers, counters and torch's
    generators as before afterwards."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.random.fork_rng(),
        in_mode(model, training=False),
        apart(model),
        kept_buffers(model),
    ):
        yield


def _looked_at(model: nn.Module, inputs: tuple[Any, ...], asked: _Asked) -> Inspected:
    return inspect(model, first_rows(inputs, asked.inspected)) if asked.inspected else Inspected()
