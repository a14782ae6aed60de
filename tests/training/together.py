"""What every process of `test_together.py` runs: one scenario, its results in a file per rank.

python -m torch.distributed.run --standalone --nproc-per-node 2 together.py SCENARIO,... FOLDER
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import dovetail as dv
from dovetail.training.snapshot import copy_of

X = torch.randn(32, 12, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > X[:, 1]).long()
DATA = TensorDataset(X, Y)
OPTIONS: dict[str, Any] = {"epochs": 3, "lr": 0.02, "seed": 1, "accumulate": 2, "clip_norm": 0.1}


def net() -> nn.Sequential:
    """An emulated network; int8 with an approximate multiplier, and blocks."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 2))
    rules = [
        dv.rule("*", input="int8", weight="int8", mul="mul8s_1KV9"),
        dv.rule("2", input="mxint8(block=8)", weight="mxint8(block=8)", mul="exact"),
    ]
    dv.apply_(model, dv.Recipe(*rules), X)
    return model


def shared_out(batch: int = 4) -> DataLoader[tuple[Tensor, ...]]:
    """This process's half of the data, in another order each epoch."""
    return DataLoader(DATA, batch_size=batch, sampler=DistributedSampler(DATA, seed=3))


def accuracy(model: nn.Module) -> float:
    """Another value in every process: only their mean is everybody's."""
    half = slice(dist.get_rank() * 16, dist.get_rank() * 16 + 16)
    return float((model(X[half]).argmax(1) == Y[half]).float().mean())


def fitted(model: nn.Module, folder: Path | None = None, **more: Any) -> dict[str, Any]:
    """The run's numbers and all tensors of the model after it."""
    result = dv.fit(model, shared_out(), checkpoint=folder, **(OPTIONS | more))
    return {"fit": result.to_dict(), "model": copy_of(model)}


def ddp(folder: Path) -> dict[str, Any]:
    """By `dv.fit`, in DDP."""
    own = {"evaluate": accuracy, "logger": folder / "log.csv"}
    return fitted(DistributedDataParallel(net()), **own)


def reductions(loader: Any, accumulate: int) -> int:
    """How often gradients were shared in an epoch."""
    buckets: list[int] = []

    def shared(index: int) -> dist.ProcessGroup:
        buckets.append(index)
        return dist.group.WORLD

    model = DistributedDataParallel(net())
    model.register_comm_hook(None, lambda _, bucket: allreduce_hook(shared(bucket.index()), bucket))
    dv.fit(model, loader, accumulate=accumulate, seed=1, progress=False)
    return len(buckets)


class Shorter:
    """A loader that gives a batch less than it says."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(shared_out(), 3)


def accumulating(folder: Path) -> dict[str, Any]:
    """Several batches to a step: of known number, of unknown, and fewer than was said."""
    found: dict[str, Any] = {str(n): reductions(shared_out(), n) for n in (1, 2, 3)}
    stream = (batch for batch in list(shared_out()))
    found["stream"] = reductions(stream, 2)
    try:
        reductions(Shorter(), 2)
    except dv.DovetailError as error:
        found["error"] = str(error)
    return found


def own_loop(folder: Path) -> dict[str, Any]:
    """By a loop of the user's."""
    model = DistributedDataParallel(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader, losses = shared_out(), []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return {"losses": losses, "model": copy_of(model)}


def fsdp(folder: Path) -> dict[str, Any]:
    """Sharded by FSDP2, every linear layer and the whole."""
    return fitted(_sharded())


def _sharded() -> nn.Module:
    model = net()
    for layer in (model[0], model[2]):
        fully_shard(layer)
    fully_shard(model)
    return model


def interrupted(make: Callable[[], nn.Module], folder: Path) -> dict[str, Any]:
    """Stopped in the second epoch, gone on with, and without an interruption."""
    calls = 0

    def loss(output: Tensor, target: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(output, target)

    try:
        fitted(make(), folder, checkpoint_every=2, loss=loss)
    except KeyboardInterrupt:
        assert (folder / "step-2.rank-1.pt").exists()
    return {"resumed": fitted(make(), folder, checkpoint_every=2), "straight": fitted(make())}


def ddp_interrupted(folder: Path) -> dict[str, Any]:
    """In DDP."""
    return interrupted(lambda: DistributedDataParallel(net()), folder / "ddp_saved")


def fsdp_interrupted(folder: Path) -> dict[str, Any]:
    """In FSDP2."""
    return interrupted(_sharded, folder / "fsdp_saved")


def budget(folder: Path) -> dict[str, Any]:
    """Every process stops at the same epoch, though the second alone would have earlier."""
    values = iter([1.0, 0.2, (0.5, 0.9)[dist.get_rank()], 0.9])
    model = DistributedDataParallel(net())
    return fitted(model, epochs=30, evaluate=lambda m: next(values), budget=0.2)


def refused(folder: Path) -> dict[str, Any]:
    """A model that no process shares."""
    try:
        fitted(net())
    except dv.DovetailError as error:
        return {"error": str(error)}
    return {}


def diverged(folder: Path) -> dict[str, Any]:
    """A loss that is not finite in one process only stops all."""
    model = DistributedDataParallel(net())

    def loss(output: Tensor, target: Tensor) -> Tensor:
        value = nn.functional.cross_entropy(output, target)
        return value / 0 if dist.get_rank() == 1 else value

    try:
        fitted(model, loss=loss)
    except dv.DovetailError as error:
        return {"error": str(error)}
    return {}


SCENARIOS = {
    f.__name__: f
    for f in (
        ddp,
        accumulating,
        own_loop,
        fsdp,
        ddp_interrupted,
        fsdp_interrupted,
        budget,
        refused,
        diverged,
    )
}


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    folder = Path(sys.argv[2])
    results = {name: SCENARIOS[name](folder) for name in sys.argv[1].split(",")}
    torch.save(results, folder / f"rank-{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
