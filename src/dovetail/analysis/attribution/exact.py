"""The exact mode: one pass for every source of every operation, from where it differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from dovetail.analysis.attribution.chosen import Chosen
from dovetail.analysis.attribution.compared import Compared, Divergence
from dovetail.analysis.attribution.inspected import Inspected
from dovetail.analysis.attribution.passes import Passes
from dovetail.analysis.attribution.rows import AttributionRow, OpSummary
from dovetail.analysis.attribution.scores import Metric, Scores, classifies, logits_of, resampled
from dovetail.emulation.partial import Partial, partial, sources_of
from dovetail.emulation.site import Site

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

    def __init__(
        self, model: nn.Module, asked: Chosen, metric: Metric, *, disable: bool, cache: bool
    ) -> None:
        self.model, self.metric, self.disable, self.cache = model, metric, disable, cache
        self.items = {key: list(_items(*each)) for key, each in asked.items()}
        self.whole = {key: self._whole(site) for key, (site, _) in asked.items()}
        self.order: list[str] = []
        self.samples = 0
        self.exact, self.emulated = Scores(), Scores()

    def _whole(self, site: Site) -> _Item:
        """All sources of one operation together; the one that there is, if there is one."""
        own = sources_of(site)
        if len(own) == 1:
            return self.items[site.op.key][0]
        return _Item(site, "", "", partial(site, own), partial(site, []))

    @property
    def passes(self) -> int:
        """How many forward passes a batch takes."""
        return 2 + len(self.everything) * (1 + self.disable)

    @property
    def everything(self) -> list[_Item]:
        """All that is measured, each once, in the plan's order."""
        return [item for key in self.items for item in self._all(key)]

    def _all(self, key: str) -> list[_Item]:
        """Everything that is measured of one operation."""
        items, whole = self.items[key], self.whole[key]
        return items if whole is items[0] else [*items, whole]

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
            if key not in self.items:
                continue
            if key not in self.order:
                self.order.append(key)
            for item in self._all(key):
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
        changes = self._changed(items, resamples, seed)
        for item, change in zip(items, changes, strict=True):
            yield AttributionRow(
                op=item.site.op.key,
                kind=item.site.op.kind,
                source=item.source,
                value=item.value,
                isolated_sqnr_db=item.isolated.sqnr_db,
                accumulated_sqnr_db=item.output.sqnr_db,
                with_sources=item.without.dropped,
                isolated_cosine=item.isolated.cosine,
                accumulated_cosine=item.output.cosine,
                accumulated_kl=item.divergence.mean if item.divergence.count else None,
                **change,
                **inspected.of(item.site.op.key, item.source),
            )

    def ops(self, inspected: Inspected, resamples: int, seed: int) -> Iterator[OpSummary]:
        """What every operation that was called costs with all its sources together."""
        items = [self.whole[key] for key in self.order]
        for item, change in zip(items, self._changed(items, resamples, seed), strict=True):
            op = item.site.op
            yield OpSummary(op.key, op.kind, **inspected.ratios.get(op.key, {}), **change)

    def _changed(self, items: list[_Item], resamples: int, seed: int) -> list[dict[str, Any]]:
        """What each changes, by the names of fields."""
        enabled = [item.enabled for item in items]
        found = _changes(self.metric, self.exact, enabled, resamples, seed)
        if self.disable:
            removed = [item.disabled for item in items]
            others = _changes(self.metric, self.emulated, removed, resamples, seed)
            for one, other in zip(found, others, strict=True):
                one |= {f"disabled_{name}": value for name, value in other.items()}
        return found


def _items(site: Site, sources: Mapping[str, str]) -> Iterator[_Item]:
    """Some sources of one operation."""
    own = sources_of(site)
    for source, value in sources.items():
        others = [other for other in own if other != source]
        yield _Item(site, source, value, partial(site, [source]), partial(site, others))


def _changes(
    metric: Metric, base: Scores, others: list[Scores], resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Of each what it changes in the metric, the ends of its interval, and the change in loss."""
    value, loss = base.value(metric), base.loss
    ends = None
    if resamples:
        found = resampled(metric, base, others, resamples, seed)
        ends = np.percentile(found, TAILS, axis=0)
    changes: list[dict[str, Any]] = []
    for place, scores in enumerate(others):
        low, high = (None, None) if ends is None else map(float, ends[:, place])
        there = scores.loss
        changes.append(
            {
                "delta_metric": scores.value(metric) - value,
                "ci_low": low,
                "ci_high": high,
                "delta_loss": None if loss is None or there is None else there - loss,
            }
        )
    return changes
