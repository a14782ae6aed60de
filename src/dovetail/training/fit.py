"""``dv.fit``: retrain an emulated model, or train any other."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dovetail._batches import cross_entropy, device_of, mode
from dovetail._numbers import is_whole
from dovetail._progress import bar
from dovetail.emulation.state import sites
from dovetail.emulation.taps import emulation_of
from dovetail.errors import DovetailError
from dovetail.sparsity import Schedule
from dovetail.training import snapshot
from dovetail.training.checkpoint import Checkpoint
from dovetail.training.distillation import Distillation, Student, distillation
from dovetail.training.evaluation import Evaluation
from dovetail.training.group import Group, group_of, is_sharded
from dovetail.training.learned_rates import give_learned_steps_their_rates
from dovetail.training.loggers import loggers
from dovetail.training.loop import Loop
from dovetail.training.optimizers import optimizer_for
from dovetail.training.options import function, whole
from dovetail.training.pace import Pace
from dovetail.training.pruning import Pruning
from dovetail.training.rates import LearningRate
from dovetail.training.result import FitResult
from dovetail.training.stepper import Stepper
from dovetail.training.surroundings import seeded
from dovetail.training.turns import Turns

__all__ = ["FitResult", "fit"]


def fit(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    epochs: int = 1,
    lr: float | None = None,
    optimizer: str | Optimizer | Callable[..., Optimizer] = "adam",
    schedule: str | LearningRate | Callable[[float], float] = "cosine",
    scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    precision: str = "fp32",
    accumulate: int = 1,
    clip_norm: float | None = None,
    evaluate: Any = None,
    budget: float | None = None,
    goal: str = "max",
    keep_best: bool = True,
    distill: str | nn.Module | Distillation | None = None,
    alternate: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    logger: Any = None,
    seed: int | None = None,
    prune: str | Schedule | None = None,
    progress: bool = True,
    on_epoch: Callable[[int, float], None] | None = None,
) -> FitResult:
    """Train ``model`` in place on ``loader``'s batches ``(inputs..., target)``.

    *Steps.* ``optimizer`` is the name of one of torch's, such as ``sgd(momentum=0.9)``, a function
    that makes one by ``optimizer(parameters, lr=lr)`` (``lr`` is 5e-4 if left out), or one that is
    made and has its own. Its learning rate follows ``schedule``: ``cosine`` (falls to 0 along half
    a cosine), ``linear`` or ``constant``, with ``cosine(warmup=0.1, end=0.01)`` as shares of the
    training and of ``lr`` (:class:`LearningRate`), or a function from progress (0 to 1) to the
    share of ``lr``; or ``scheduler(optimizer)`` makes a torch scheduler, stepped once a step. An
    optimizer made here that ignores the size of gradients (all but ``sgd``, ``asgd``) moves learned
    steps of casts in proportion to their size. A step takes the mean gradient of ``accumulate``
    batches, bounded to ``clip_norm``, computed in ``precision`` (fp32, or bf16 or fp16 by torch's
    autocast).

    *Loss.* ``loss(output, target)`` is a scalar tensor (default: cross entropy); ``distill`` mixes
    in what a teacher says: ``"exact"``, the model as it was without its emulation, or see
    :class:`Distillation`. ``prune`` takes the weights of sparse operations away step by step
    (:class:`Pruning`). With ``alternate`` the batches of an epoch go through the recipes of
    :func:`dovetail.apply_several_` in turn, beginning with the first, which is active at the end;
    ``accumulate=`` their number makes each step one for all, and what is evaluated is their mean.

    *Looking.* ``evaluate(model)``, or ``(loader, metric)`` with ``metric(model, loader)``, gives a
    number before training and after each epoch, in eval mode; more is better (``goal="min"``:
    less). The best epoch's weights stand in the model at the end, unless ``keep_best=False``.
    ``budget`` ends the training as soon as the number is no further than that from the exact
    model's. ``logger`` is a path of a CSV file, a TensorBoard ``SummaryWriter``, anything with
    ``log(step, values)``, or a list of those. ``on_epoch(epoch, mean_loss)`` is called after each
    epoch, counted from 1.

    *Repeating.* With a ``seed``, data order, dropout and stochastic rounding repeat, and torch's
    global generator is left as it was. ``checkpoint`` is a folder to save to after each epoch, and
    every ``checkpoint_every`` steps: the same call, made again after an interruption, goes on where
    it stopped and ends with the same bits. A checkpoint that is damaged, or of another run, is
    refused. A loader whose sampler has ``set_epoch`` is told the epoch, counted from 0.

    A model in ``DistributedDataParallel``, or sharded by ``fully_shard``, is trained by all its
    processes together; only the first writes. Each module's train/eval mode is restored at the end,
    also on errors.

    Raises :class:`DovetailError` for a loader without batches, a model without anything to train,
    and at the first loss that is not finite, before its step is taken.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(64, 4)
    >>> batches = [(x, (x[:, 0] > 0).long())]
    >>> result = fit(nn.Linear(4, 2), batches, epochs=3, lr=0.1, progress=False)
    >>> result.steps, result.losses[-1] < result.losses[0]
    (3, True)
    """
    _check(model, loader, epochs, seed)
    function("loss", loss, "loss(output, target)")
    function("scheduler", scheduler, "scheduler(optimizer)")
    function("on_epoch", on_epoch, "on_epoch(epoch, mean_loss)")
    device = device_of(model)
    group, batches = group_of(model, device), _length(loader)
    parameters = _parameters(model)
    step_on = optimizer_for(parameters, optimizer, lr)
    if step_on is not optimizer:
        give_learned_steps_their_rates(step_on, model)
    pace = _pace(step_on, schedule, scheduler, batches)
    student = None if distill is None else distillation(distill).of(model)
    loop = Loop(
        model,
        loader,
        _criterion(model, loss or cross_entropy, student),
        epochs,
        batches,
        Stepper(
            step_on,
            parameters,
            device,
            precision=precision,
            accumulate=accumulate,
            clip_norm=clip_norm,
        ),
        pace,
        group,
        evaluation=_evaluation(model, evaluate, budget, goal, group),
        keep_best=keep_best,
        pruning=None if prune is None else _pruning(model, prune, epochs, batches, accumulate),
        turns=Turns(model) if alternate else None,
        loggers=loggers(logger),
        on_epoch=on_epoch,
    )
    if checkpoint is not None:
        run = _run(loop, student) | {"precision": precision, "seed": seed, "prune": str(prune)}
        sharded = any(is_sharded(parameter) for parameter in parameters)
        loop.checkpoint = Checkpoint(checkpoint, run, group, sharded=sharded)
    loop.checkpoint_every = _every(checkpoint_every, checkpoint)
    with (
        seeded(None if seed is None else seed + group.rank, device, loader),
        mode(model, training=True),
        bar("training", epochs * batches if batches else None, progress and group.is_first) as tick,
    ):
        loop.tick = tick
        place = loop.run()
    return FitResult(
        tuple(place.losses),
        place.step,
        pace.highest[0],
        seed,
        tuple(place.metrics),
        place.exact,
        place.best,
        place.stopped,
    )


def _check(model: Any, loader: Any, epochs: Any, seed: Any) -> None:
    if not isinstance(model, nn.Module):
        raise DovetailError(f"model={model!r}: dv.fit trains an nn.Module")
    if not isinstance(loader, Iterable) and not hasattr(loader, "__getitem__"):
        raise DovetailError(f"loader={loader!r}: give an iterable of batches (inputs..., target)")
    whole("epochs", epochs, "training takes at least 1")
    if seed is not None and not (is_whole(seed) and -(2**63) <= seed < 2**63):
        raise DovetailError(f"seed={seed!r}: give a whole number of up to 63 bits, such as 0")


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    """What is trained: the model's parameters, and with them what emulation learns (scores)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise DovetailError(
            f"{type(model).__name__} has no parameter with requires_grad=True: nothing to train"
        )
    return parameters


def _pace(
    optimizer: Optimizer,
    schedule: str | LearningRate | Callable[[float], float],
    scheduler: Callable[[Optimizer], LRScheduler] | None,
    batches: int | None,
) -> Pace:
    if scheduler is not None and schedule != "cosine":
        raise DovetailError(f"schedule={schedule!r} and a scheduler: give one of them")
    pace = Pace(optimizer, schedule, scheduler)
    if batches is None and pace.needs_steps:
        raise DovetailError("warmup needs a loader with a length: it is a share of its steps")
    return pace


def _criterion(
    model: nn.Module, loss: Callable[[Any, Tensor], Tensor], student: Student | None
) -> Callable[[tuple[Any, ...], Tensor], Tensor]:
    if student is not None:
        return lambda inputs, target: student.loss(inputs, target, loss)
    return lambda inputs, target: loss(model(*inputs), target)


def _evaluation(
    model: nn.Module, evaluate: Any, budget: float | None, goal: str, group: Group
) -> Evaluation | None:
    if evaluate is None:
        if budget is not None:
            raise DovetailError(f"budget={budget} of what? Give evaluate=... with it")
        return None
    if budget is not None:
        emulation_of(model)  # the exact model is what the budget compares with
    return Evaluation(evaluate, budget, goal, group)


def _pruning(
    model: nn.Module, schedule: str | Schedule, epochs: int, batches: int | None, accumulate: int
) -> Pruning:
    if batches is None:
        raise DovetailError("prune needs a loader with a length: a schedule has an end")
    return Pruning(model, schedule, epochs * max(1, math.ceil(batches / accumulate)))


def _length(loader: Iterable[Any]) -> int | None:
    """Batches in an epoch, or None for a stream: its learning rate then falls once an epoch."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:
        return None


def _every(steps: int | None, checkpoint: str | Path | None) -> int | None:
    if steps is not None and checkpoint is None:
        raise DovetailError(f"checkpoint_every={steps} of what? Give checkpoint='folder' with it")
    if steps is not None:
        whole("checkpoint_every", steps, "it counts steps from 1")
    return steps


def _run(loop: Loop, student: Student | None) -> dict[str, Any]:
    """What two calls must have in common for one to go on where the other stopped."""
    look = loop.evaluation
    return {
        "epochs": loop.epochs,
        "batches": loop.batches,
        "optimizer": type(loop.stepper.optimizer).__name__,
        "lr": loop.pace.highest,
        "schedule": loop.pace.name,
        "accumulate": loop.stepper.accumulate,
        "clip_norm": loop.stepper.clip_norm,
        "evaluate": look and [look.goal, look.budget, loop.keep_best],
        "distill": student and [str(student.how), snapshot.digest(student.teacher)],
        "alternate": loop.turns and loop.turns.names,
        "processes": loop.group.size,
        "arithmetic": _arithmetic(loop.model),
    }


def _arithmetic(model: nn.Module) -> str:
    """A name for what the emulation does, operation by operation."""
    lines = [f"{site.op.key} {site.spelling}" for site, _ in sites(model)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
