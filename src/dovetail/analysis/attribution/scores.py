"""What the metric is made of, sample by sample, and the paired bootstrap of its changes.

Of every sample three numbers are kept: how many of its targets were hit, the sum of their cross
entropies, and how many there are. Accuracy, mean loss and perplexity are functions of the sums of
these over samples, so a resample is a weighted sum (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993). It is paired: every model is weighed by the same draws.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail._batches import classes_first
from dovetail.analysis.metrics import accuracy, perplexity
from dovetail.errors import DovetailError, unknown

__all__ = [
    "IGNORED",
    "Metric",
    "Scores",
    "check_classes",
    "check_metric",
    "check_name",
    "check_resampled",
    "classifies",
    "logits_of",
    "metric_for",
    "resampled",
    "weights",
]

Floats = npt.NDArray[np.float64]
#: Losses are summed in these steps: exactly, so that no order of summation shows.
_STEP = 2.0**-20
_WEIGHTS = 1 << 22  # that are in memory at a time
#: The target that torch's cross entropy leaves out.
IGNORED = -100


class Metric(NamedTuple):
    """``of`` makes it from sums of hits, losses and counts ``[..., 3]``; a user's ``function`` from
    a model and a loader."""

    name: str
    higher_is_better: bool | None
    of: Callable[[Floats], Floats] | None
    function: Callable[..., Any] | None = None


def _accuracy(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 2])


def _loss(sums: Floats) -> Floats:
    return np.asarray(sums[..., 1] / sums[..., 2])


def _perplexity(sums: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.exp(_loss(sums))


_METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("accuracy", True, _accuracy),
    "loss": Metric("loss", False, _loss),
    "perplexity": Metric("perplexity", False, _perplexity),
}
_FUNCTIONS: Sequence[tuple[Any, str]] = ((accuracy, "accuracy"), (perplexity, "perplexity"))


def metric_for(given: Any, output: Any, target: Tensor) -> Metric:
    """The metric that ``given`` means for a model with such outputs and targets.

    >>> metric_for(None, torch.zeros(2, 5), torch.zeros(2).long()).name
    'accuracy'
    >>> metric_for(None, torch.zeros(2, 3, 5), torch.zeros(2, 3).long()).name
    'perplexity'
    """
    name = next((name for function, name in _FUNCTIONS if function is given), given)
    if name is None:
        name = _usual(output, target)
    if not isinstance(name, str):
        if callable(given):
            return Metric(_name(given), None, None, given)
        raise DovetailError(
            f"metric is 'accuracy', 'loss', 'perplexity' or metric(model, loader), not {given!r}"
        )
    check_name(name)
    if not classifies(output, target):
        raise DovetailError(
            f"{name} needs logits and targets that are classes, not {_shown(output)} and "
            f"{_shown(target)}: give metric(model, loader)"
        )
    return _METRICS[name]


def check_name(given: Any) -> None:
    """Refuse a text that names no metric.

    >>> check_name("acc")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown metric 'acc'; did you mean 'accuracy'? Known: accuracy...
    """
    if isinstance(given, str) and given not in _METRICS:
        raise unknown("metric", given, _METRICS)


def check_metric(given: Any) -> None:
    """Refuse what is no metric, as far as that can be told without a model.

    >>> check_metric(lambda model: 0.5)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: metric is called as metric(model, loader), and <lambda>(model)...
    """
    check_name(given)
    if not callable(given) or isinstance(given, str):
        return
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):  # of some built-in functions nobody knows
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise DovetailError(
            f"metric is called as metric(model, loader), and {_name(given)}{signature} cannot be"
        ) from None


def check_classes(logits: Tensor, target: Tensor) -> None:
    """Refuse targets that are no classes of logits ``[B, classes, ...]``; -100 is ignored.

    >>> check_classes(torch.zeros(2, 5), torch.tensor([4, 5]))
    Traceback (most recent call last):
    dovetail.errors.DovetailError: the target 5 is none of the 5 classes, 0 to 4, that have a logit
    """
    wrong = target[((target < 0) | (target >= logits.shape[1])) & (target != IGNORED)]
    if wrong.numel():
        most = logits.shape[1]
        raise DovetailError(
            f"the target {int(wrong[0])} is none of the {most} classes, 0 to {most - 1}, that have "
            "a logit"
        )


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _usual(output: Any, target: Tensor) -> str:
    """Perplexity for what has a class for every token, accuracy for all else."""
    logits = logits_of(output)
    tokens = target.dim() > 1 and isinstance(logits, Tensor) and logits.shape[:-1] == target.shape
    return "perplexity" if tokens else "accuracy"


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def logits_of(output: Any) -> Any:
    """A model's logits: its output, or the attribute ``logits`` of that.

    >>> logits_of(torch.ones(2)).shape
    torch.Size([2])
    """
    return getattr(output, "logits", output)


def classifies(output: Any, target: Tensor) -> bool:
    logits = classes_first(logits_of(output), target)
    if not isinstance(logits, Tensor) or target.is_floating_point() or logits.dim() < 2:
        return False
    return (logits.shape[0], *logits.shape[2:]) == tuple(target.shape)


@dataclass
class Scores:
    """One model's outputs on the batches so far: ``[samples, 3]`` of hits, losses and counts where
    the targets are classes; the outputs themselves if a user's metric asks for them."""

    parts: list[Floats] = field(default_factory=list)
    outputs: list[tuple[Any, Tensor]] = field(default_factory=list)

    def add(self, output: Any, target: Tensor, metric: Metric) -> None:
        """One more batch."""
        if classifies(output, target):
            self.parts.append(_scored(output, target))
        if metric.function is not None:
            self.outputs.append((logits_of(output), target))

    @property
    def samples(self) -> Floats:
        return np.concatenate(self.parts)

    @property
    def loss(self) -> float | None:
        """The mean loss over all targets, where these are classes."""
        return float(_loss(self.samples.sum(0))) if self.parts else None

    def value(self, metric: Metric) -> float:
        """The metric on all samples."""
        if metric.of is not None:
            sums = self.samples.sum(0)
            if not sums[2]:
                raise DovetailError(f"every target is ignored ({IGNORED}): {metric.name} has none")
            return float(metric.of(sums))
        assert metric.function is not None
        return _called(metric.function, self.outputs)


def _scored(output: Any, target: Tensor) -> Floats:
    logits = classes_first(logits_of(output), target).detach().double()
    check_classes(logits, target)
    valid = target != IGNORED
    hits = (logits.argmax(1) == target) & ~logits.isnan().any(1)
    losses = F.cross_entropy(logits, target, reduction="none")
    columns = [t.double().reshape(len(target), -1).sum(1) for t in (hits, losses, valid)]
    return np.asarray(torch.stack(columns, 1).cpu().numpy())


def _called(function: Callable[..., Any], batches: Sequence[tuple[Any, Tensor]]) -> float:
    found = function(nn.Identity(), batches)
    value = getattr(found, "value", found)
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError):
        raise DovetailError(
            f"metric {_name(function)} gave {found!r:.60}, which is no number"
        ) from None


def resampled(
    metric: Metric, base: Scores, others: Sequence[Scores], resamples: int, seed: int
) -> Floats:
    """``[resamples, len(others)]``: what the metric of each is above that of ``base``, on samples
    drawn again with replacement, the same ones for all."""
    if metric.function is not None:
        return _resampled_calls(metric.function, base, others, resamples, seed)
    assert metric.of is not None
    every = np.stack([scores.samples for scores in (base, *others)])
    every = np.stack([every[..., 0], np.round(every[..., 1] / _STEP), every[..., 2]], -1)
    flat = every.transpose(1, 0, 2).reshape(every.shape[1], -1)
    found = np.empty((resamples, len(others)))
    place = 0
    for drawn in weights(every.shape[1], resamples, seed):
        sums = (drawn @ flat).reshape(len(drawn), len(every), 3)
        sums[..., 1] *= _STEP
        with np.errstate(invalid="ignore"):  # of a resample in which every target is ignored
            values = metric.of(sums)
        found[place : place + len(drawn)] = values[:, 1:] - values[:, :1]
        place += len(drawn)
    return found


def weights(samples: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each sample is drawn: rows of whole numbers, a few at a time."""
    draw = np.random.default_rng(seed)
    some = max(1, min(resamples, _WEIGHTS // max(1, samples)))
    for start in range(0, resamples, some):
        rows = [
            np.bincount(draw.integers(0, samples, samples), minlength=samples)
            for _ in range(min(some, resamples - start))
        ]
        yield np.asarray(rows, dtype=np.float64)


def _resampled_calls(
    function: Callable[..., Any], base: Scores, others: Sequence[Scores], resamples: int, seed: int
) -> Floats:
    whole = [_joined(scores) for scores in (base, *others)]
    samples = len(whole[0][1])
    draw = np.random.default_rng(seed)
    found = np.empty((resamples, len(others)))
    for row in range(resamples):
        index = torch.from_numpy(draw.integers(0, samples, samples))
        values = [_called(function, [(y[index], t[index])]) for y, t in whole]
        found[row] = np.asarray(values[1:]) - values[0]
    return found


def _joined(scores: Scores) -> tuple[Tensor, Tensor]:
    outputs, targets = zip(*scores.outputs, strict=True)
    return torch.cat(outputs), torch.cat(targets)


def check_resampled(metric: Metric, output: Any, target: Tensor) -> None:
    """Refuse a metric that cannot be computed on samples that are drawn again."""
    logits = logits_of(output)
    rows = isinstance(logits, Tensor) and logits.dim() and len(logits) == len(target)
    if metric.function is not None and not rows:
        raise DovetailError(
            "confidence intervals draw samples again, and the model's output is no tensor with a "
            "row for each: give resamples=0"
        )
