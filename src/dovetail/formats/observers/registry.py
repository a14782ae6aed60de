"""Observers by their spelling, and the range of a tensor that one asks for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dovetail._spelling import parse_call
from dovetail.errors import DovetailError, unknown
from dovetail.formats.integer import IntFormat
from dovetail.formats.observers.base import Observer, Range, nothing
from dovetail.formats.observers.criteria import Criterion, LeastError, Percentile
from dovetail.formats.observers.divergence import least_divergence
from dovetail.formats.observers.extremes import MinMax, MovingAverage
from dovetail.formats.observers.sample import Histogram, Sample

__all__ = ["OBSERVERS", "Binned", "Entropy", "Sampled", "observer", "range_by"]


class Binned(Observer):
    """Keeps the extremes and a histogram."""

    def __init__(self) -> None:
        super().__init__()
        self.extremes = MinMax()
        self.histogram: Histogram | None = None

    def _take(self, rows: Tensor) -> None:
        self.extremes.update(rows)
        if self.histogram is None:
            self.histogram = Histogram(rows)
        else:
            self.histogram.add(rows)

    def by(self, spec: str) -> Observer:
        """The observer that ``spec`` spells, of extremes or a histogram, as if it had seen what
        this one has.

        >>> seen = observer("entropy")
        >>> seen.update(torch.tensor([[-1.0, 3.0]]))
        >>> seen.by("max").range(IntFormat(8))
        (tensor([-1.]), tensor([3.]))
        """
        chosen = observer(spec)
        if isinstance(chosen, MinMax):
            return self.extremes
        if not isinstance(chosen, Binned):
            raise DovetailError(f"'{spec}' follows from no histogram; the nearest is 'minmax'")
        chosen.rows, chosen._seen = self.rows, self._seen
        chosen.extremes, chosen.histogram = self.extremes, self.histogram
        return chosen


class Sampled(Binned):
    """A criterion on a histogram of what was seen."""

    def __init__(self, criterion: Criterion) -> None:
        super().__init__()
        self.criterion = criterion

    def _range(self, fmt: IntFormat, /) -> Range:
        assert self.histogram is not None
        low, high = self.extremes.range(fmt)
        return self.criterion.choose(self.histogram.sample(low, high), fmt)


class Entropy(Binned):
    """The range by :func:`dovetail.formats.observers.divergence.least_divergence`."""

    def _range(self, fmt: IntFormat, /) -> Range:
        assert self.histogram is not None
        low, high = self.extremes.range(fmt)
        return least_divergence(self.histogram, low, high, fmt)


#: Name to what makes an observer from the numbers in its parentheses, and what it does.
OBSERVERS: dict[str, tuple[Callable[..., Observer], str]] = {
    "minmax": (MinMax, "the extremes"),
    "moving_average": (MovingAverage, "the extremes of each batch, averaged: moving_average(0.9)"),
    "percentile": (
        lambda percent=99.99: Sampled(Percentile(percent)),
        "so many values of a hundred by magnitude: percentile(99.9)",
    ),
    "mse": (lambda: Sampled(LeastError()), "least squared error, both ends moved at once"),
    "l2": (lambda: Sampled(LeastError(apart=True)), "least squared error, each end by itself"),
    "entropy": (Entropy, "least Kullback-Leibler divergence (TensorRT)"),
}
_ALIASES = {"max": "minmax", "kl": "entropy", "histogram": "l2"}


def observer(spec: str) -> Observer:
    """The observer that ``spec`` spells, such as ``"minmax"`` or ``"percentile(99.9)"``.

    ``max`` is another name of ``minmax``, ``histogram`` of ``l2``, ``kl`` of ``entropy``.

    >>> observer("percentile(99.9)").criterion
    Percentile(percent=99.9)
    >>> observer("min")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown observer 'min'; did you mean 'minmax'? ...
    """
    if not isinstance(spec, str):
        raise DovetailError(f"observer={spec!r}: give its name, 'minmax' or 'percentile(99.9)'")
    name, args, kwargs = parse_call(spec)
    name = _ALIASES.get(name, name)
    if name not in OBSERVERS:
        raise unknown("observer", name, sorted([*OBSERVERS, *_ALIASES]))
    for key in kwargs:
        if key != _NUMBERS.get(name):
            known = [_NUMBERS[name]] if name in _NUMBERS else []
            raise unknown(f"argument in '{spec}':", key, known)
    numbers = [*args, *kwargs.values()]
    most = 1 if name in _NUMBERS else 0
    plain = all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers)
    if len(numbers) > most or not plain:
        raise DovetailError(
            f"observer '{spec}': {name} takes {'one number' if most else 'no argument'}, as in "
            f"'{name}{_EXAMPLES.get(name, '')}'"
        )
    return OBSERVERS[name][0](*map(float, numbers))


_NUMBERS = {"percentile": "percent", "moving_average": "momentum"}
_EXAMPLES = {"percentile": "(99.9)", "moving_average": "(0.9)"}


def range_by(spec: str, fmt: IntFormat, rows: Tensor) -> Range:
    """The range of each row of one whole tensor, [rows, n], that an observer asks for.

    Criteria see the values themselves, not a histogram of them; NaN and infinities count as zeros.
    Rows without values have the range ``inf..-inf``.

    >>> range_by("mse", IntFormat(8), torch.tensor([[1.0, -3.0]]))
    (tensor([-3.]), tensor([1.]))
    """
    if not rows.shape[1]:
        return nothing(rows.shape[0])
    parts = rows.detach().nan_to_num(0.0, 0.0, 0.0).split(max(1, _CHUNK // rows.shape[1]))
    low, high = zip(*(_range_of(spec, fmt, part) for part in parts), strict=True)
    return torch.cat(low), torch.cat(high)


_CHUNK = 1 << 21  # values searched at once: criteria hold several float64 copies


def _range_of(spec: str, fmt: IntFormat, rows: Tensor) -> Range:
    chosen = observer(spec)
    if isinstance(chosen, Sampled):
        return chosen.criterion.choose(Sample.of(rows), fmt)
    chosen.update(rows)
    return chosen.range(fmt)
