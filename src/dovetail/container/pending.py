"""A recipe that waits for a model's first inputs: they are the example that it is applied on.

While it waits, the model's ``forward`` is an entry of the instance's ``__dict__``, as copies and
pickles take it along.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dovetail.container.weights import load_weights
from dovetail.emulation import (
    Arguments,
    Plan,
    apply_,
    emulation_of,
    is_emulated,
    load_state,
    remove_,
    state,
)
from dovetail.errors import DovetailError, unknown
from dovetail.recipe import Recipe, Rule
from dovetail.recipe.dmatrix import PRESETS, Configuration, load_configuration

__all__ = ["Source", "emulates", "recipe_of", "settle", "transform", "waits"]

_PENDING = "_dovetail_pending"
_WEIGHTS = ("load", "ignore")

Source = str | Path | Recipe | Rule | None


def transform(
    model: nn.Module,
    config: Source = None,
    *rules: Source,
    example: Any = None,
    weights: str = "load",
    reset: bool = False,
) -> nn.Module:
    """Give ``model`` a configuration, then more rules, after what it was given before.

    ``config`` and ``rules`` are a file (of dovetail or any generation of the d-Matrix tools), the
    name of a preset (``BASELINE`` undoes everything), a :class:`~dovetail.Recipe` or a single rule.
    Everything readable is checked now; the rest when the model first runs, on whose inputs the
    recipe is applied (see :func:`dovetail.apply_`), ranges included. An ``example`` does that at
    once. ``weights`` says whether the weight files that a d-Matrix configuration names are loaded
    (``load``) or not (``ignore``). ``reset`` forgets what it was given before; alone it leaves the
    model as torch has it. Returns ``model``. What is refused leaves the model as it was; what is
    refused on its first inputs is refused on every input until a ``reset``.

    >>> import torch, dovetail as dv
    >>> net = nn.Linear(4, 2)
    >>> transform(net, "BASIC", dv.rule(output="bf16"), example=torch.ones(1, 4)) is net
    True
    >>> recipe_of(net).rules[-1].fields["output"]
    bf16
    """
    if weights not in _WEIGHTS:
        raise DovetailError(f"weights='{weights}': say 'load' or 'ignore'")
    read = [_read(source) for source in (config, *rules) if source is not None]
    _check_whole(model)
    recipe = sum((item.recipe for item in read), Recipe() if reset else recipe_of(model))
    if weights == "load":
        load_weights(model, {path: url for item in read for path, url in item.weights.items()})
    if not recipe.rules:
        _forget(model)
    elif example is None:
        _wait(model, recipe)
    else:
        settle(model, recipe, example)
    return model


def recipe_of(model: nn.Module) -> Recipe:
    """The recipe that a model was given, applied already or not."""
    if waits(model):
        waiting: Recipe = model.__dict__[_PENDING][0]
        return waiting
    return emulation_of(model).plan.recipe if emulates(model) else Recipe()


def waits(model: nn.Module) -> bool:
    """Whether the model has a recipe that waits for its first inputs."""
    return _PENDING in model.__dict__


def emulates(model: nn.Module) -> bool:
    """Whether any part of the model is emulated."""
    return any(is_emulated(module) for module in model.modules())


def settle(model: nn.Module, recipe: Recipe, example: Any) -> Plan:
    """Apply ``recipe`` in place of what is emulated; a refusal leaves the model as it was."""
    with _unwaiting(model):
        before = state(model) if emulates(model) else None
        remove_(model)
        try:
            return apply_(model, recipe, example)
        except BaseException:
            if before is not None:
                load_state(model, before, example)
            raise


def _check_whole(model: nn.Module) -> None:
    """Refuse a model of which a part, and not the whole, was given a recipe."""
    for path, module in model.named_modules():
        if path and waits(module):
            raise DovetailError(
                f"'{path}' waits with a configuration of its own: give the whole model one, with "
                f"rules for '{path}.*'"
            )
    if emulates(model):
        own = dict(model.named_modules(remove_duplicate=False))
        for op in emulation_of(model).plan:
            if op.path not in own or not is_emulated(own[op.path]):
                raise DovetailError(
                    "a part of this model is emulated by itself: dv.remove_ it first, and give "
                    "the whole model one configuration"
                )


def _forget(model: nn.Module) -> None:
    """Remove the waiting recipe and everything emulated."""
    with _unwaiting(model):
        remove_(model)


def _read(source: Source) -> Configuration:
    if isinstance(source, Recipe):
        return Configuration(source)
    if isinstance(source, Rule):
        return Configuration(Recipe(source))
    if isinstance(source, str) and source in PRESETS:
        return Configuration(PRESETS[source])
    if not isinstance(source, (str, Path)):
        raise DovetailError(
            f"a configuration is a file, a preset ({', '.join(PRESETS)}), a Recipe or a rule, not "
            f"{source!r}"
        )
    if isinstance(source, str) and source.isidentifier() and not Path(source).exists():
        raise unknown("preset", source, PRESETS)
    return load_configuration(source)


def _wait(model: nn.Module, recipe: Recipe) -> None:
    held = model.__dict__.get(_PENDING)
    earlier = held[1] if held else model.__dict__.get("forward")
    model.__dict__[_PENDING] = (recipe, earlier)
    model.__dict__["forward"] = functools.partial(_first, model)


def _first(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """The forward of a model whose recipe waits."""
    settle(model, recipe_of(model), Arguments(args, kwargs))
    return model.forward(*args, **kwargs)


@contextmanager
def _unwaiting(model: nn.Module) -> Iterator[None]:
    """Within, the model's own forward stands; it waits again if that ends in an error."""
    held = model.__dict__.pop(_PENDING, None)
    if held is None:
        yield
        return
    recipe, earlier = held
    _set_forward(model, earlier)
    try:
        yield
    except BaseException:
        _wait(model, recipe)
        raise


def _set_forward(model: nn.Module, forward: Callable[..., Tensor] | None) -> None:
    model.__dict__.pop("forward", None)
    if forward is not None:
        model.__dict__["forward"] = forward
