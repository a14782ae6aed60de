"""The first-order mode: one pass, in which every local error meets the gradient of the loss.

The exact model runs once, with gradients. At every operation each source of its error is computed
on the same exact inputs: an error ``e``. The change that it makes in the mean loss is predicted as
``g e``, where ``g`` is the gradient of the loss by the operation's result. In a trained network
that alone says little, so where the targets are classes half of ``e G e`` is added: ``G``, the
Gauss-Newton matrix of the cross entropy, is ``J' (diag(p) - p p') J`` for the Jacobian ``J`` of the
logits and the probabilities ``p``. It is never made: ``(u e)^2`` with ``u = J' v`` and a random
``v`` of covariance ``diag(p) - p p'`` is ``e G e`` on average, and costs one more backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dovetail._batches import classes_first, cross_entropy
from dovetail.analysis.attribution.chosen import Chosen
from dovetail.analysis.attribution.compared import Compared
from dovetail.analysis.attribution.scores import IGNORED, check_classes, classifies, logits_of
from dovetail.emulation.calls import Call
from dovetail.emulation.operators import OpCall
from dovetail.emulation.partial import Partial, partial
from dovetail.emulation.site import Site
from dovetail.emulation.taps import performing
from dovetail.errors import DovetailError

__all__ = ["FirstOrder", "Loss", "Predicted"]

Loss = Callable[[Any, Tensor], Tensor]


@dataclass
class Predicted:
    """What one source of one operation is predicted to change: in every sample's loss, where each
    of the operation's results has a row for each; and in the sum of all losses, of which ``bend``
    is the part of second order if there is one."""

    site: Site
    source: str
    value: str
    partial: Partial
    isolated: Compared = field(default_factory=Compared)
    samples: list[Tensor] | None = field(default_factory=list)
    total: float = 0.0
    bend: float | None = None


class _Error(NamedTuple):
    """A local error at one call, and the zero added to the exact result there."""

    of: Predicted
    error: Tensor
    probe: Tensor


class FirstOrder:
    """Predicts what every source of error of an emulated model changes in the mean loss."""

    def __init__(
        self, model: nn.Module, asked: Chosen, loss: Loss | None = None, seed: int = 0
    ) -> None:
        self.model, self.loss = model, loss
        self._draw = torch.Generator().manual_seed(seed)
        self.found: dict[str, list[Predicted]] = {}
        self.order: list[str] = []
        self.samples = 0
        self.counts: list[Tensor] = []
        self._losses = [0.0, 0.0]
        self._errors: list[_Error] = []
        for key, (site, sources) in asked.items():
            self.found[key] = [
                Predicted(site, source, value, partial(site, [source]))
                for source, value in sources.items()
            ]

    @property
    def predicted(self) -> list[Predicted]:
        """Those of the operations that were called, in the order of their first calls."""
        return [each for key in self.order for each in self.found[key]]

    def mean(self, total: float) -> float:
        """Of a sum over all that the loss is a mean of: targets, or, of a loss that was given,
        samples. ``counts`` has how many of them each sample has."""
        return total / float(sum(part.sum() for part in self.counts))

    def check(self) -> None:
        """Refuse data without any target that counts."""
        if not any(part.any() for part in self.counts):
            raise DovetailError(f"every target is ignored ({IGNORED}): the loss has none")

    @property
    def exact_loss(self) -> float:
        return self.mean(self._losses[0])

    @property
    def emulated_loss(self) -> float:
        return self.mean(self._losses[1])

    def add(self, inputs: tuple[Any, ...], target: Tensor) -> None:
        """Predict on one more batch."""
        counts = torch.ones(len(target), dtype=torch.float64)
        if self.loss is None:
            counts = (target != IGNORED).reshape(len(target), -1).sum(1).double().cpu()
        self.samples += len(target)
        self.counts.append(counts)
        if not counts.any():
            self._nothing(len(target))
            return
        self._errors.clear()
        with torch.no_grad():
            emulated = float(self._loss(self.model(*inputs), target))
        with torch.enable_grad(), performing(self.model, self._perform):
            output = self.model(*inputs)
            loss = self._loss(output, target)
            if self._errors:
                self._meet(output, loss, target)
        self._losses[0] += float(loss.detach()) * float(counts.sum())
        self._losses[1] += emulated * float(counts.sum())

    def _nothing(self, size: int) -> None:
        """A batch whose targets are all ignored changes nothing."""
        for each in (one for several in self.found.values() for one in several):
            if each.samples is not None:
                each.samples.append(torch.zeros(size, dtype=torch.float64))

    def _loss(self, output: Any, target: Tensor) -> Tensor:
        logits = logits_of(output)
        if self.loss is None:
            if not classifies(output, target):
                raise DovetailError(
                    "the cross entropy is of logits and targets that are classes: give loss, which "
                    "makes one number of the model's output and the target"
                )
            check_classes(classes_first(logits, target), target)
            return cross_entropy(logits, target)
        found = self.loss(logits, target)
        if not isinstance(found, Tensor) or found.numel() != 1:
            raise DovetailError(f"loss(output, target) is one number, a mean, not {found!r:.60}")
        return found.reshape(())

    def _perform(self, site: Site, module: nn.Module, call: Call | OpCall) -> Tensor:
        y = call.exact()
        key = site.op.key
        if key not in self.found:
            return y
        if key not in self.order:
            self.order.append(key)
        probe = torch.zeros_like(y, requires_grad=True)
        there = y.detach()
        with torch.no_grad():
            for each in self.found[key]:
                other = each.partial.perform(module, call)
                each.isolated.add(there, other)
                error = torch.where(other == there, torch.zeros_like(there), other - there)
                self._errors.append(_Error(each, error, probe))
        return y + probe

    def _meet(self, output: Any, loss: Tensor, target: Tensor) -> None:
        """Multiply the errors by the gradients of the mean loss, and of a projection of logits."""
        probes = list(dict.fromkeys(each.probe for each in self._errors))
        if not loss.requires_grad:
            raise DovetailError(
                "no operation of the plan has a part in the loss that can be differentiated: does "
                "the model's forward run without gradients?"
            )
        curved = self.loss is None
        gradients = torch.autograd.grad(
            loss, probes, allow_unused=True, retain_graph=curved, materialize_grads=True
        )
        slopes = dict(zip(probes, gradients, strict=True))
        bends: dict[Tensor, Tensor] = {}
        if curved:
            logits = classes_first(logits_of(output), target)
            ends = _projection(logits.detach(), target, self._draw)
            gradients = torch.autograd.grad(
                logits, probes, ends, allow_unused=True, materialize_grads=True
            )
            bends = dict(zip(probes, gradients, strict=True))
        self._sum(slopes, bends, len(target))
        self._errors.clear()

    def _sum(self, slopes: dict[Tensor, Tensor], bends: dict[Tensor, Tensor], size: int) -> None:
        counted = float(self.counts[-1].sum())
        linear: dict[int, Tensor] = {}
        square: dict[int, Tensor] = {}
        for each in self._errors:
            place = id(each.of)
            _gather(linear, place, _by_sample(each.error * slopes[each.probe], size))
            if bends:
                _gather(square, place, _by_sample(each.error * bends[each.probe], size))
        for predicted in {id(each.of): each.of for each in self._errors}.values():
            change = linear[id(predicted)] * counted
            if bends:
                bend = square[id(predicted)] ** 2 / 2
                predicted.bend = (predicted.bend or 0.0) + float(bend.sum())
                change = change + bend
            predicted.total += float(change.sum())
            if predicted.samples is None or len(change) != size:
                predicted.samples = None
            else:
                predicted.samples.append(change)


def _projection(logits: Tensor, target: Tensor, draw: torch.Generator) -> Tensor:
    """``v`` of covariance ``diag(p) - p p'`` for the classes of every target."""
    p = logits.double().softmax(1)
    z = torch.randn(logits.shape, generator=draw, dtype=torch.float64).to(logits.device)
    root = p.sqrt() * z
    v = root - p * (p.sqrt() * root).sum(1, keepdim=True)
    return (v * (target != IGNORED).unsqueeze(1)).to(logits.dtype)


def _by_sample(product: Tensor, size: int) -> Tensor:
    """The sum of a product: of each sample, if the tensor has a row for each, else ``[1]``."""
    wide = product.detach().double().cpu()
    if wide.dim() and len(wide) == size:
        return wide.reshape(size, -1).sum(1)
    return wide.sum().reshape(1)


def _gather(sums: dict[int, Tensor], place: int, found: Tensor) -> None:
    known = sums.get(place)
    if known is not None:
        found = found + known if len(found) == len(known) else (found.sum() + known.sum())[None]
    sums[place] = found
