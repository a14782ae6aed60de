"""In which layers of a model an operator is called."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["layers_of"]


class _Seen(TorchDispatchMode):
    """Notes on which path an operator is called."""

    def __init__(self, key: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.key, self.path, self.found = key, [""], dict[str, None]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if str(func) == self.key:
            self.found[self.path[-1] or "."] = None
        return func(*args, **(kwargs or {}))


def layers_of(
    source: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], key: str
) -> list[str]:
    """The paths of the layers whose ``forward`` calls the operator ``key``; the root is ``.``.

    Empty where only gradients do, or what an operator is taken apart into.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> layers_of(net, (torch.ones(1, 2),), {}, "aten.relu.default")
    ['1']
    """
    seen, model = _Seen(key), copy.deepcopy(source)
    for name, part in model.named_modules():
        part.register_forward_pre_hook(lambda *_, name=name: seen.path.append(name))
        part.register_forward_hook(lambda *_: _pop(seen.path), always_call=True)
    with torch.no_grad(), torch.random.fork_rng(), seen:
        model(*args, **kwargs)
    return list(seen.found)


def _pop(path: list[str]) -> None:
    path.pop()
