"""The exact mode: one pass for every source of every operation, from where it differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from dovetail.analysis.attribution.compared import Compared, Divergence
from dovetail.analysis.attribution.inspected import Inspected
from dovetail.analysis.attribution.passes import Passes
from dovetail.analysis.attribution.rows import AttributionRow
from dovetail.analysis.attribution.scores import Metric, Scores, classifies, logits_of, resampled
from dovetail.emulation.partial import Partial, partial, sources_of
from dovetail.emulation.site import Site
from dovetail.emulation.state import sites

__all__ = ["TAILS", "Exact"]

TAILS = (2.5, 97.5)  # percent: the ends of a 95 % interval


@dataclass
class _Item:
    """One source of one operation: how it computes alone, how without it, and what was found."""

    site: Site
    source: str
    value: str
    alone: Partial
    without: Partial
    isolated: Compared = field(default_factory=Compared)
    output: Compared = field(default_factory=Compared)
    divergence: Divergence = field(default_factory=Divergence)
    enabled: Scores = field(default_factory=Scores)
    disabled: Scores = field(default_factory=Scores)


class Exact:
    """Measures every source of error of an emulated model, batch by batch."""

    def __init__(self, model: nn.Module, metric: Metric, *, disable: bool, cache: bool) -> None:
        self.model, self.metric, self.disable, self.cache = model, metric, disable, cache
        self.items: dict[str, list[_Item]] = {}
        self.order: list[str] = []
        self.samples = 0
        self.exact, self.emulated = Scores(), Scores()
        for site, _ in sites(model):
            self.items[site.op.key] = list(_items(site))

    @property
    def passes(self) -> int:
        """How many forward passes a batch takes."""
        return 2 + sum(map(len, self.items.values())) * (1 + self.disable)

    def add(self, inputs: tuple[Any, ...], target: Tensor, done: Callable[[], None]) -> None:
        """Measure on one more batch; ``done`` is called after every pass."""
        passes = Passes(self.model, inputs, cache=self.cache)
        self.samples += len(target)
        reference = passes.whole(exact=True)
        self.exact.add(reference, target, self.metric)
        done()
        self.emulated.add(passes.whole(exact=False), target, self.metric)
        done()
        for key in passes.operations():
            if key not in self.order:
                self.order.append(key)
            for item in self.items[key]:
                output = passes.changed(key, item.alone, exact=True, compared=item.isolated)
                self._compare(item, reference, output, target)
                item.enabled.add(output, target, self.metric)
                done()
                if self.disable:
                    output = passes.changed(key, item.without, exact=False)
                    item.disabled.add(output, target, self.metric)
                    done()

    def _compare(self, item: _Item, reference: Any, output: Any, target: Tensor) -> None:
        exact, other = logits_of(reference), logits_of(output)
        if isinstance(exact, Tensor) and isinstance(other, Tensor) and exact.shape == other.shape:
            item.output.add(exact, other)
        if classifies(reference, target):
            item.divergence.add(exact, other, target)

    def rows(self, inspected: Inspected, resamples: int, seed: int) -> Iterator[AttributionRow]:
        """A row for every source of every operation that was called, in the order of the calls."""
        items = [item for key in self.order for item in self.items[key]]
        enabled = _changes(self.metric, self.exact, [i.enabled for i in items], resamples, seed)
        removed = [i.disabled for i in items] if self.disable else []
        disabled = _changes(self.metric, self.emulated, removed, resamples, seed)
        for place, item in enumerate(items):
            more: dict[str, Any] = {}
            if self.disable:
                delta, low, high, loss = disabled[place]
                more = {
                    "disabled_delta_metric": delta,
                    "disabled_ci_low": low,
                    "disabled_ci_high": high,
                    "disabled_delta_loss": loss,
                }
            delta, low, high, loss = enabled[place]
            yield AttributionRow(
                op=item.site.op.key,
                kind=item.site.op.kind,
                source=item.source,
                value=item.value,
                isolated_sqnr_db=item.isolated.sqnr_db,
                accumulated_sqnr_db=item.output.sqnr_db,
                delta_metric=delta,
                ci_low=low,
                ci_high=high,
                delta_loss=loss,
                with_sources=item.without.dropped,
                isolated_cosine=item.isolated.cosine,
                accumulated_cosine=item.output.cosine,
                accumulated_kl=item.divergence.mean if item.divergence.count else None,
                **more,
                **inspected.of(item.site.op.key, item.source),
            )


def _items(site: Site) -> Iterator[_Item]:
    """Every source of one operation."""
    found = sources_of(site)
    for source, value in found.items():
        others = [other for other in found if other != source]
        yield _Item(site, source, value, partial(site, [source]), partial(site, others))


_Change = tuple[float, "float | None", "float | None", "float | None"]


def _changes(
    metric: Metric, base: Scores, others: list[Scores], resamples: int, seed: int
) -> list[_Change]:
    """Of each what it changes in the metric, the ends of its interval, and the change in loss."""
    if not others:
        return []
    value, loss = base.value(metric), base.loss
    ends = None
    if resamples:
        found = resampled(metric, base, others, resamples, seed)
        ends = np.percentile(found, TAILS, axis=0)
    changes: list[_Change] = []
    for place, scores in enumerate(others):
        low, high = (None, None) if ends is None else map(float, ends[:, place])
        there = scores.loss
        change = None if loss is None or there is None else there - loss
        changes.append((scores.value(metric) - value, low, high, change))
    return changes
