"""``dv.Model``: a container that takes a configuration, and is otherwise the network in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import nn

from dovetail.analysis import tree
from dovetail.container.monitor import Monitor, monitoring
from dovetail.container.pending import Source, emulates, recipe_of, transform, waits
from dovetail.emulation import Plan, emulation_of
from dovetail.errors import DovetailError
from dovetail.recipe import Recipe

__all__ = ["Model"]


class Model(nn.Module):
    """``body``, ready to be told what arithmetic it runs on.

    Until then it computes what ``body`` computes. Its ``state_dict`` is the body's, under the
    body's own names, and attributes that it has not are the body's. It copies, pickles and trains
    as any module does.

    >>> import torch, dovetail as dv
    >>> model = Model(nn.Linear(8, 2)).transform("FP8", dv.rule(output="bf16"))
    >>> y = model(torch.ones(1, 8))
    >>> model.config["."]["weight"], list(model.state_dict()), model.in_features
    ('float(e=4, m=3, specials=finite)', ['weight', 'bias'], 8)
    """

    body: nn.Module

    def __init__(self, body: nn.Module) -> None:
        if not isinstance(body, nn.Module):
            raise DovetailError(f"a Model is made of an nn.Module, not of {body!r}")
        super().__init__()
        self.body = body
        self.register_state_dict_post_hook(_without_body)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_body)  # type: ignore[no-untyped-call]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.body(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "body":
                raise
            return getattr(self.body, name)

    def transform(self, config: Source = None, *rules: Source, **options: Any) -> Model:
        """Give it a configuration, then more rules; see :func:`dovetail.container.transform`."""
        transform(self.body, config, *rules, **options)
        return self

    @property
    def recipe(self) -> Recipe:
        """All that it was told, in order."""
        return recipe_of(self.body)

    @property
    def plan(self) -> Plan:
        """Which operation got what; there is one once it has seen inputs."""
        if waits(self.body):
            raise DovetailError(
                "the configuration is taken on with the first inputs: run the model once, or give "
                "transform an example"
            )
        return emulation_of(self.body).plan if emulates(self.body) else Plan(Recipe(), ())

    @property
    def config(self) -> dict[str, dict[str, str]]:
        """Operation to field to value, for all that differs from torch."""
        return {op.key: op.arithmetic.describe() for op in self.plan}

    def tree(self, width: int = 100) -> str:
        """The body's modules as a tree, with what every operation was given."""
        return tree(self.body, self.plan, width)

    def monitoring(
        self, *names: str | Iterable[str], keep_tensors: bool = True
    ) -> AbstractContextManager[Monitor]:
        """Record what goes through the body's modules; see :func:`dovetail.monitoring`."""
        flat = [n for name in names for n in ([name] if isinstance(name, str) else name)]
        return monitoring(self.body, *flat, keep_tensors=keep_tensors)

    def freeze(self, path: str | Path) -> None:
        """Write all that it was told to an experiment file."""
        self.recipe.save(path)

    def thaw(self, path: str | Path, example: Any = None) -> Model:
        """Forget what it was told, and read a file (of any dialect) instead."""
        return self.transform(path, reset=True, example=example)


def _without_body(
    _module: nn.Module, state: dict[str, Any], prefix: str, _metadata: dict[str, Any]
) -> None:
    """The body's names in a ``state_dict`` lose the prefix ``body.``, and so does its metadata."""
    _rename(state, prefix + "body.", lambda name: prefix + name)
    versions = getattr(state, "_metadata", None)
    if versions is not None:
        own = versions.pop(prefix + "body", None)
        _rename(versions, prefix + "body.", lambda name: prefix + name)
        if own is not None:
            versions[prefix.removesuffix(".")] = own


def _with_body(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before loading, the names are those of the body again."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + "body." + name[len(prefix) :]] = state.pop(name)


def _rename(mapping: dict[str, Any], start: str, rename: Callable[[str], str]) -> None:
    for name in [name for name in mapping if name.startswith(start)]:
        mapping[rename(name[len(start) :])] = mapping.pop(name)
