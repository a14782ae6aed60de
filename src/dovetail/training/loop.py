"""The loop itself: epochs of batches, each a loss, a gradient and now and then a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from dovetail._batches import inputs_and_target
from dovetail.errors import DovetailError
from dovetail.training import snapshot
from dovetail.training.checkpoint import Checkpoint
from dovetail.training.evaluation import Evaluation
from dovetail.training.group import Group
from dovetail.training.loggers import Logger
from dovetail.training.pace import Pace
from dovetail.training.pruning import Pruning
from dovetail.training.stepper import Stepper
from dovetail.training.turns import Turns

__all__ = ["Loop", "Place"]


@dataclass
class Place:
    """Where a training stands. ``batch`` counts those done in ``epoch``, ``draws`` are the random
    generators at its start, which with them tell the batch that is next."""

    epoch: int = 1
    batch: int = 0
    step: int = 0
    total: float = 0.0
    losses: list[float] = field(default_factory=list)
    metrics: list[float] = field(default_factory=list)
    exact: float | None = None
    best: int | None = None
    stopped: bool = False
    draws: dict[str, Any] | None = None


@dataclass
class Loop:
    """One run. ``loss(inputs, target)`` calls the model; the rest does what its class says."""

    model: nn.Module
    loader: Iterable[Any]
    loss: Callable[[tuple[Any, ...], Tensor], Tensor]
    epochs: int
    batches: int | None
    stepper: Stepper
    pace: Pace
    group: Group
    evaluation: Evaluation | None = None
    keep_best: bool = True
    pruning: Pruning | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_every: int | None = None
    loggers: Sequence[Logger] = ()
    on_epoch: Callable[[int, float], None] | None = None
    turns: Turns | None = None
    tick: Callable[[int, str], None] = lambda done, text: None
    place: Place = field(default_factory=Place)
    best: dict[str, Tensor] | None = None
    gathered: float = 0.0

    def run(self) -> Place:
        """Train to the end, or until it is good enough; the best weights stand in the model."""
        if self.turns is not None:
            self.turns.take(0)
        resumed = self._resume()
        for logger in self.loggers if self.group.is_first else ():
            start = getattr(logger, "start", None)
            if callable(start):
                start(self.place.step if resumed else 0)
        if not resumed:
            self._look(0)
        while self.place.epoch <= self.epochs and not self.place.stopped:
            self._epoch()
        if self.pruning is not None:
            self.pruning.finish()
        if self.best is not None:
            snapshot.put_back(self.model, self.best)
        return self.place

    def _epoch(self) -> None:
        place, epoch = self.place, self.place.epoch
        for batch in self._rest_of_epoch():
            self._batch(batch)
            if self.stepper.is_due:
                self._step()
                self._save_within()
        if place.batch == 0:
            raise DovetailError(f"the loader gave no batch in epoch {epoch}: nothing to learn")
        if self.stepper.gathered:
            self._check_end()
            self._step()
        place.losses.append(place.total / place.batch)
        values = {"epoch": epoch, "epoch_loss": place.losses[-1]}
        self._look(epoch, values)
        if self.on_epoch is not None:
            self.on_epoch(epoch, place.losses[-1])
        place.epoch, place.batch, place.total = epoch + 1, 0, 0.0
        self._save()

    def _batch(self, batch: Any) -> None:
        place = self.place
        if self.stepper.gathered == 0:
            share = min(place.batch / self.batches, 1.0) if self.batches else 0.0
            self.pace.set((place.epoch - 1 + share) / self.epochs)
        if self.turns is not None:
            self.turns.take(place.batch)
        inputs, target = inputs_and_target(batch, self.group.device)
        with self.group.sharing(self.model, self._ends_step()):
            with self.stepper.autocast():
                value = self.loss(inputs, target)
            place.batch += 1
            _check_loss(value)
            found = self.group.mean(value.item())
            if not abs(found) < float("inf"):
                raise DovetailError(
                    f"the loss is {found} at epoch {place.epoch}, step {place.batch}: training "
                    f"diverged and was stopped; try a lower lr (it is {self.pace.highest[0]:g})"
                )
            self.stepper.backward(value)
        place.total += found
        self.gathered += found
        done = (place.epoch - 1) * (self.batches or 0) + place.batch
        self.tick(done, f"training, epoch {place.epoch}/{self.epochs}")

    def _ends_step(self) -> bool:
        """Whether a step follows on the next batch, or may, as nobody knows how many come."""
        fills = self.stepper.gathered + 1 == self.stepper.accumulate
        return fills or self.batches is None or self.place.batch + 1 >= self.batches

    def _check_end(self) -> None:
        """Refuse a step of gradients that were to be shared with those of a later batch."""
        done, said = self.place.batch, self.batches
        if self.group.size > 1 and said is not None and done < said:
            raise DovetailError(
                f"the loader gave {done} batches in epoch {self.place.epoch} and says that it has "
                f"{said}: processes that train together share gradients by its length"
            )

    def _step(self) -> None:
        loss = self.gathered / self.stepper.gathered
        lr = float(self.pace.optimizer.param_groups[0]["lr"])
        self.gathered = 0.0
        self.stepper.take()
        self.pace.stepped()
        if self.pruning is not None:
            self.pruning.step()
        self.place.step += 1
        self._log({"loss": loss, "lr": lr})

    def _look(self, epoch: int, values: dict[str, float] | None = None) -> None:
        """Evaluate, keep what is best, and see whether it is good enough."""
        place, found = self.place, dict(values or {})
        if self.turns is not None:
            self.turns.take(0)
        if self.evaluation is not None:
            if epoch == 0 and self.evaluation.budget is not None:
                place.exact = self.evaluation.exact(self.model)
            best = None if place.best is None else place.metrics[place.best]
            place.metrics.append(self._metric(self.evaluation))
            found |= {"epoch": epoch, "metric": place.metrics[-1]}
            first = place.best is None
            if self.keep_best and (first or self.evaluation.is_better(place.metrics[-1], best)):
                place.best, self.best = epoch, snapshot.copy_of(self.model)
                if self.checkpoint is not None:
                    self.checkpoint.write_best(epoch, self.best)
            place.stopped = self.evaluation.is_enough(place.metrics[-1], place.exact)
        if found:
            self._log(found)

    def _metric(self, evaluation: Evaluation) -> float:
        """Of several recipes the mean."""
        if self.turns is None:
            return evaluation(self.model)
        return self.turns.mean(lambda: evaluation(self.model))

    def _log(self, values: dict[str, float]) -> None:
        if self.group.is_first:
            for logger in self.loggers:
                logger.log(self.place.step, values)

    def _rest_of_epoch(self) -> Iterator[Any]:
        """The batches of this epoch that are not done: after a resume, the same as they were."""
        place, device = self.place, self.group.device
        _tell_epoch(self.loader, place.epoch - 1)
        if place.batch == 0:
            place.draws = snapshot.draws(device, self.loader)
            yield from self.loader
            return
        now = snapshot.draws(device, self.loader)
        assert place.draws is not None
        snapshot.restore_draws(place.draws, device, self.loader)
        batches = iter(self.loader)
        for done in range(place.batch):
            if next(batches, None) is None:
                raise DovetailError(
                    f"the loader gives {done} batches, and {place.batch} were done already: it is "
                    "not the loader that the checkpoint was made with"
                )
        snapshot.restore_draws(now, device, self.loader)
        yield from batches

    def _save_within(self) -> None:
        every, place = self.checkpoint_every, self.place
        if every is not None and place.step % every == 0 and place.batch != self.batches:
            self._save()

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        if self.turns is not None:
            self.turns.take(0)
        state = {
            "model": snapshot.tensors(self.model),
            "optimizer": snapshot.optimizer_state(self.stepper.optimizer),
            "scaler": self.stepper.scaler.state_dict(),
            "pace": self.pace.state(),
            "pruned": None if self.pruning is None else self.pruning.done,
        }
        own = {
            "place": asdict(self.place),
            "draws": snapshot.draws(self.group.device, self.loader),
        }
        self.checkpoint.write(self.place.step, state, own)

    def _resume(self) -> bool:
        saved = None if self.checkpoint is None else self.checkpoint.read()
        if self.checkpoint is None or saved is None:
            return False
        snapshot.put_back(self.model, saved["model"])
        snapshot.restore_optimizer(self.stepper.optimizer, saved["optimizer"])
        self.stepper.scaler.load_state_dict(saved["scaler"])
        self.pace.restore(saved["pace"])
        self.place = Place(**saved["place"])
        if self.pruning is not None:
            self.pruning.go_to(saved["pruned"])
        if self.place.best is not None:
            self.best = self.checkpoint.read_best(self.place.best)
        snapshot.restore_draws(saved["draws"], self.group.device, self.loader)
        return True


def _check_loss(value: Any) -> None:
    if not isinstance(value, Tensor):
        raise DovetailError(f"the loss is {value!r}, not a tensor: nothing follows from it")
    if value.numel() != 1:
        raise DovetailError(f"the loss is a tensor of shape {tuple(value.shape)}, not a number")
    if not value.requires_grad:
        raise DovetailError(
            "the loss has no gradient: it does not follow from anything that is trained, or was "
            "detached on the way"
        )


def _tell_epoch(loader: Any, epoch: int) -> None:
    """Samplers that share data out among processes shuffle by the epoch they are told."""
    sampler = getattr(loader, "sampler", None)
    batches = getattr(loader, "batch_sampler", None)
    for one in (loader, sampler, getattr(batches, "sampler", None)):
        tell = getattr(one, "set_epoch", None)
        if callable(tell):
            tell(epoch)
