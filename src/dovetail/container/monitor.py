"""What went through chosen modules, and how long each call took."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from dovetail.errors import unknown

__all__ = ["Monitor", "Record", "monitoring"]


@dataclass(frozen=True)
class Record:
    """One call of one module: copies of what it was given and what it gave, and its seconds."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    seconds: float


@dataclass
class Monitor:
    """The calls seen, by module path, in order."""

    records: dict[str, list[Record]] = field(default_factory=dict)

    def __getitem__(self, path: str) -> list[Record]:
        if path not in self.records:
            raise unknown("monitored module", path, self.records)
        return self.records[path]

    @property
    def seconds(self) -> dict[str, float]:
        """All the time spent in each module, those inside it included."""
        return {path: sum(r.seconds for r in found) for path, found in self.records.items()}

    def save(self, path: str | Path) -> None:
        """Write the tensors to a file that ``torch.load(path)`` reads: path to list of calls."""
        plain = {
            name: [{"args": r.args, "kwargs": r.kwargs, "output": r.output} for r in found]
            for name, found in self.records.items()
        }
        torch.save(plain, path)


@contextmanager
def monitoring(model: nn.Module, *names: str, keep_tensors: bool = True) -> Iterator[Monitor]:
    """Within, record every call of the modules that ``names`` (globs; all by default) match.

    Inputs and outputs are detached copies; ``keep_tensors=False`` records times alone. Works on any
    model, emulated or not, and leaves nothing behind, also after an error.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> with monitoring(net, "1") as monitor:
    ...     y = net(torch.ones(2, 4))
    >>> len(monitor["1"]), monitor["1"][0].output.equal(y)
    (1, True)
    """
    monitor = Monitor()
    with ExitStack() as stack:
        for path, module in _chosen(model, names):
            monitor.records[path] = []
            watch = _Watch(monitor.records[path], keep_tensors)
            before = module.register_forward_pre_hook(watch.start, with_kwargs=True)
            stack.callback(before.remove)
            after = module.register_forward_hook(watch.stop, with_kwargs=True, always_call=True)
            stack.callback(after.remove)
        yield monitor


class _Watch:
    """The hooks of one module; a module may call itself, so starts are a stack."""

    def __init__(self, records: list[Record], keep_tensors: bool) -> None:
        self.records, self.keep_tensors = records, keep_tensors
        self.started: list[tuple[float, Any, Any]] = []

    def start(self, _module: nn.Module, args: Any, kwargs: Any) -> None:
        inputs = (_copied(args), _copied(kwargs)) if self.keep_tensors else ((), {})
        _wait((args, kwargs))
        self.started.append((time.perf_counter(), *inputs))

    def stop(self, _module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        _wait(output)
        began, *inputs = self.started.pop()
        seconds = time.perf_counter() - began
        kept = _copied(output) if self.keep_tensors else None
        self.records.append(Record(inputs[0], inputs[1], kept, seconds))


def _chosen(model: nn.Module, names: Sequence[str]) -> list[tuple[str, nn.Module]]:
    paths = dict(model.named_modules())
    if not names:
        return list(paths.items())
    for name in names:
        if not fnmatch.filter(paths, name):
            raise unknown("module", name, (path for path in paths if path))
    return [(p, m) for p, m in paths.items() if any(fnmatch.fnmatchcase(p, n) for n in names)]


def _copied(value: Any) -> Any:
    return tree_map(lambda t: t.detach().clone() if isinstance(t, Tensor) else t, value)


def _wait(value: Any) -> None:
    """Until the device has computed what ``value`` holds."""
    if any(isinstance(leaf, Tensor) and leaf.is_cuda for leaf in tree_leaves(value)):
        torch.cuda.synchronize()
