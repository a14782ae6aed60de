"""Batch norms folded into what feeds them, and their statistics estimated anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.errors import DovetailError
from dovetail.recovery.batches import Batches, quiet
from dovetail.recovery.flow import Flow, flow
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import PRODUCTS, Operation, Operations, Select, operations

__all__ = ["fold_batch_norm", "reestimate_batch_norm"]

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def fold_batch_norm(model: nn.Module, batches: Iterable[Any], *, select: Select = "*") -> Recovery:
    """Fold each selected batch norm, as it is in eval mode, into the linear layer or convolution
    that feeds it and nothing else, as the first batch proves; an ``nn.Identity`` takes its place.

    With ``f = weight / sqrt(running_var + eps)``, computed in float64, each output channel's
    weights are multiplied by ``f`` and its bias becomes ``bias + (b - running_mean) * f``. A layer
    without bias gets one, so the keys of the model's ``state_dict()`` change. A norm that cannot be
    folded is left, and the table says why; it is an error if none can, or if the model is emulated:
    fold first. In exact arithmetic the function in eval mode stays. Source: Jacob and others, arXiv
    1712.05877, section 3.2.

    >>> import dovetail as dv
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2)).eval()
    >>> done = dv.fold_batch_norm(net, [torch.ones(1, 1, 2, 2)])
    >>> done["1"].what, net[1], net[0].bias is not None
    ('folded into 0', Identity(), True)
    >>> done.undo()
    >>> type(net[1]).__name__, net[0].bias
    ('BatchNorm2d', None)
    """
    inputs = Batches(batches, model)
    found = operations(model, inputs)
    if found.emulated:
        raise DovetailError(
            "fold_batch_norm: this model is emulated, by a plan with its batch norms in it: fold "
            "them first, and apply the recipe then"
        )
    chosen = found.select("fold_batch_norm", select, ("batch_norm",))
    flowing = flow(model, inputs)
    reasons = {op: _why_not(op, flowing, found) for op in chosen}
    if all(reasons.values()):
        op, why = next(iter(reasons.items()))
        raise DovetailError(f"fold_batch_norm: {op.key} cannot be folded, as {why}")
    with Work("fold_batch_norm", "") as work:
        for op, why in reasons.items():
            if why:
                work.note(op.key, f"left, as {why}")
            else:
                source = found.by_place[_feeder(op, flowing)]
                _fold(work, op, source)
                _replace(work, model, op)
                work.note(op.key, f"folded into {source.key}")
    return work.result


def _feeder(op: Operation, flowing: Flow) -> tuple[str, str, int]:
    place = flowing.feeder(op.place)
    assert place is not None
    return place


def _why_not(op: Operation, flowing: Flow, found: Operations) -> str:
    """Why a batch norm cannot be folded; empty if it can."""
    if not isinstance(op.module, nn.modules.batchnorm._BatchNorm) or op.calls != 1:
        return "it is no module of torch that is called once"
    if op.module.running_mean is None:
        return "it has no running statistics"
    place = flowing.feeder(op.place)
    source = None if place is None else found.by_place[place]
    if place is None or source is None or source.kind not in PRODUCTS:
        return "no linear layer or convolution feeds it"
    if flowing.only_takers(place) != {(op.place, "input")} or flowing.reshaped(place):
        return f"what {source.key} gives goes elsewhere, too, or is reshaped"
    users = Counter(id(o.weight.parameter) for o in found.by_place.values() if o.weight)
    if source.weight is None or source.shared or users[id(source.weight.parameter)] > 1:
        return f"the weight of {source.key} is shared or computed"
    if source.calls != 1:
        return f"{source.key} is called {source.calls} times"
    if source.bias is None and ("bias" in source.shapes or "bias" not in source.module._parameters):
        return f"the bias of {source.key} is computed"
    return ""


def _fold(work: Work, op: Operation, source: Operation) -> None:
    norm, weight = op.module, source.weight
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert weight is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    factor = (variance + norm.eps).rsqrt()
    shift = torch.zeros_like(mean)
    if norm.weight is not None:
        factor = factor * norm.weight.detach().double()
    if norm.bias is not None:
        shift = norm.bias.detach().double()
    value = weight.read()
    scaled = value.double() * factor.view(-1, *[1] * (value.dim() - 1))
    weight.write(scaled.to(value.dtype), work.journal)
    before = torch.zeros_like(mean) if source.bias is None else source.bias.read().double()
    bias = ((before - mean) * factor + shift).to(value.dtype)
    if source.bias is not None:
        source.bias.write(bias, work.journal)
    else:
        source.module._parameters["bias"] = nn.Parameter(bias, weight.parameter.requires_grad)


def _replace(work: Work, model: nn.Module, op: Operation) -> None:
    """An identity in the place, or the places, of the norm."""
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is op.module:
                work.journal.save(parent)
                parent._modules[name] = nn.Identity().train(op.module.training)


def reestimate_batch_norm(
    model: nn.Module, batches: Iterable[Any], *, select: Select = "*"
) -> Recovery:
    """Estimate the running mean and variance of the selected batch norms anew: as the average over
    ``batches`` of each batch's own, while the model computes as it is emulated.

    Each batch should be as large as in training: its statistics are taken whole, and normalise what
    the batch norms behind see. All else is in eval mode. A norm without running statistics is
    refused. ``before`` in the table is the mean over channels of the squared shift of the mean, in
    units of the earlier variance. Source: Sun and others, arXiv 1912.12917.

    >>> import dovetail as dv
    >>> net = nn.Sequential(nn.BatchNorm1d(1)).eval()
    >>> done = dv.reestimate_batch_norm(net, [torch.tensor([[2.0], [4.0]])])
    >>> net[0].running_mean, net[0].running_var
    (tensor([3.]), tensor([2.]))
    >>> done.undo()
    >>> net[0].running_mean
    tensor([0.])
    """
    inputs = Batches(batches, model)
    found = operations(model, inputs)
    chosen = found.select("reestimate_batch_norm", select, ("batch_norm",), anywhere=True)
    norms: dict[nn.Module, Operation] = {}
    for op in chosen:
        if op.module._buffers.get("running_mean") is None:
            raise DovetailError(
                f"reestimate_batch_norm: {op.key} has no running statistics to estimate"
            )
        norms[op.module] = op
    with Work("reestimate_batch_norm", "squared shift of the mean, in variances") as work:
        for norm in norms:
            work.journal.save(norm, *(n for n in _STATISTICS if norm._buffers.get(n) is not None))
        earlier = {norm: (_buffer(norm, 0).clone(), _buffer(norm, 1).clone()) for norm in norms}
        _estimate(model, inputs, list(norms))
        for norm, op in norms.items():
            mean, variance = earlier[norm]
            new = _buffer(norm, 0)
            if not bool(torch.isfinite(new).all() & torch.isfinite(_buffer(norm, 1)).all()):
                raise DovetailError(
                    f"reestimate_batch_norm: {op.key} saw values that are not finite"
                )
            shift = (new - mean).double().square() / variance.double().clamp(min=1e-30)
            work.note(op.key, "running statistics", float(shift.mean()))
    return work.result


def _estimate(model: nn.Module, batches: Batches, norms: list[nn.Module]) -> None:
    momenta = {norm: norm.momentum for norm in norms}
    with quiet(model):
        try:
            for norm in norms:
                norm.reset_running_stats()  # type: ignore[operator]
                norm.momentum = None  # type: ignore[assignment]
                norm.training = True
            for batch in batches.over("reestimate_batch_norm: statistics"):
                model(*batch.args, **batch.kwargs)
        finally:
            for norm, momentum in momenta.items():
                norm.momentum = momentum


def _buffer(norm: nn.Module, place: int) -> Tensor:
    value = norm._buffers[_STATISTICS[place]]
    assert value is not None
    return value
