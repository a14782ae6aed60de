"""One set of weights under several recipes, of which one is active at a time.

Each recipe keeps its own ranges, masks and learned steps, and, of every batch normalisation, its
own running statistics (switchable batch normalisation; Yu, Yang, Xu, Yang and Huang, Slimmable
Neural Networks, 2019): those gathered under one multiplier are wrong under another. What belongs to
the recipes that are not active waits in the same modules under names of its own, so that it moves,
is copied and is trained with the model, and ``state_dict()`` shows the active one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from dovetail.emulation.apply import SEVERAL, Fitting, fitting, remove_, swap_all
from dovetail.emulation.entry import Entry
from dovetail.emulation.mode import ENTRY
from dovetail.emulation.planned import Plan
from dovetail.emulation.site import Emulation
from dovetail.emulation.swap import BUFFER_PREFIX, OWN_PREFIX, is_emulated, swap_in
from dovetail.emulation.trace import trace
from dovetail.errors import DovetailError, unknown
from dovetail.recipe import Recipe

__all__ = ["NORMS", "Several", "apply_several_", "norms_of", "recipes", "several_of", "switch"]

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_AFFINE = ("weight", "bias")
_WAITING = (OWN_PREFIX, f"{BUFFER_PREFIX}alt")
#: What each recipe has of its own of a batch normalisation.
NORMS: dict[str, tuple[str, ...]] = {
    "statistics": _STATISTICS,
    "affine": _STATISTICS + _AFFINE,
    "shared": (),
}


@dataclass
class Several:
    """The recipes of one model: for each, what its modules get while it is active."""

    norms: str
    active: str
    emulations: dict[str, Emulation]
    entries: dict[str, dict[nn.Module, Entry]]
    modules: list[nn.Module]

    def waiting(self, name: str) -> str:
        """What stands in the names of tensors that wait for the recipe ``name`` to be active."""
        return f"alt{list(self.entries).index(name)}__"


def apply_several_(
    model: nn.Module,
    recipes: Mapping[str, Recipe],
    example: Any = None,
    *,
    norms: str = "statistics",
) -> dict[str, Plan]:
    """Emulate several recipes in ``model``, in place, one at a time; the first is active.

    The weights are shared. Of every batch normalisation each recipe has its own running
    ``statistics``, with ``norms="affine"`` also its own weight and bias (parameters for the
    optimizer, started from the model's), with ``"shared"`` nothing. :func:`dovetail.switch` makes
    another recipe the active one; ``Recipe()``, which has no rules, is the exact model.
    :func:`dovetail.remove_` leaves the tensors of the active one. Everything else is as
    :func:`dovetail.apply_` does it.

    >>> import torch
    >>> from dovetail.recipe import rule
    >>> net = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    >>> rough = Recipe(rule("*", input="int4", weight="int4"))
    >>> plans = apply_several_(net, {"exact": Recipe(), "rough": rough}, torch.ones(2, 4))
    >>> switch(net, "rough")
    >>> _ = net(torch.ones(2, 4))
    >>> [int(net[1].num_batches_tracked), switch(net, "exact"), int(net[1].num_batches_tracked)]
    [1, None, 0]
    """
    if norms not in NORMS:
        raise unknown("norms", norms, NORMS)
    if not isinstance(recipes, Mapping) or not recipes:
        raise DovetailError(f"several recipes are {{name: recipe, ...}}, not {recipes!r}")
    found = trace(model, example)
    made = {name: fitting(model, recipe, found) for name, recipe in recipes.items()}
    try:
        return _put_in(model, made, norms)
    except BaseException:
        remove_(model)
        raise


def switch(model: nn.Module, name: str) -> None:
    """Make ``name`` the recipe that ``model`` computes by (after :func:`apply_several_`).

    What changes is its arithmetic, its ranges and masks, and its batch normalisation; optimizers go
    on with the parameters they have.

    >>> switch(nn.Linear(2, 2), "rough")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: this model has no several recipes: call dv.apply_several_ ...
    """
    several = several_of(model)
    if name not in several.entries:
        raise unknown("recipe", name, several.entries)
    if name == several.active:
        return
    for module in several.modules:
        _store(module, several.waiting(several.active), several.norms)
        _fetch(module, several.waiting(name))
        module.__dict__[ENTRY] = several.entries[name][module]
    several.active = name


def recipes(model: nn.Module) -> tuple[str, ...]:
    """The names of a model's several recipes; none after :func:`dovetail.apply_`.

    >>> recipes(nn.Linear(2, 2))
    ()
    """
    for module in model.modules():
        if SEVERAL in module.__dict__:
            return tuple(module.__dict__[SEVERAL].entries)
    return ()


def several_of(model: nn.Module) -> Several:
    """What stands in a model with several recipes."""
    for module in model.modules():
        if SEVERAL in module.__dict__:
            found: Several = module.__dict__[SEVERAL]
            return found
    raise DovetailError(
        "this model has no several recipes: call dv.apply_several_(model, {name: recipe}) first"
    )


def norms_of(model: nn.Module) -> dict[str, Tensor]:
    """What the active recipe has of its own of each normalisation, by path."""
    own = NORMS[several_of(model).norms]
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, _NormBase):
            for name in own:
                value = getattr(module, name)
                if value is not None:
                    found[f"{path}.{name}" if path else name] = value
    return found


def _put_in(model: nn.Module, made: dict[str, Fitting], norms: str) -> dict[str, Plan]:
    first, *others = made
    union = {m: entry for each in made.values() for m, entry in each.entries.items()}
    swap_all(model, union, made[first].emulation)
    own = NORMS[norms]
    normal = [m for m in model.modules() if own and isinstance(m, _NormBase)]
    for norm in normal:
        if not is_emulated(norm):
            swap_in(norm, Entry(made[first].emulation, {}))
    modules = [module for module in model.modules() if is_emulated(module)]
    entries = {
        name: {m: each.entries.get(m) or Entry(each.emulation, {}) for m in modules}
        for name, each in made.items()
    }
    emulations = {name: each.emulation for name, each in made.items()}
    several = Several(norms, first, emulations, entries, modules)
    model.__dict__[SEVERAL] = several
    for module in modules:
        module.__dict__[ENTRY] = entries[first][module]
    for norm in normal:
        for name in others:
            _copy_norm(norm, several.waiting(name), own)
    for name, each in made.items():
        switch(model, name)
        each.fill()
    switch(model, first)
    return {name: each.plan for name, each in made.items()}


def _copy_norm(module: nn.Module, waiting: str, own: tuple[str, ...]) -> None:
    """A recipe's own normalisation, as the model's is now."""
    for name in own:
        place = OWN_PREFIX + waiting + name
        if (value := module._buffers.get(name)) is not None:
            module.register_buffer(place, value.detach().clone(), persistent=False)
        if (parameter := module._parameters.get(name)) is not None:
            copy = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
            module.register_parameter(place, copy)


def _store(module: nn.Module, waiting: str, norms: str) -> None:
    """Put the active recipe's tensors under the names where they wait."""
    own = NORMS[norms] if isinstance(module, _NormBase) else ()
    for tensors in _tensors(module):
        for name, value in list(tensors.items()):
            if name in own and value is not None:
                _move(module, tensors, name, OWN_PREFIX + waiting + name)
            elif name.startswith(BUFFER_PREFIX) and not name.startswith(_WAITING):
                rest = name.removeprefix(BUFFER_PREFIX)
                _move(module, tensors, name, BUFFER_PREFIX + waiting + rest)


def _fetch(module: nn.Module, waiting: str) -> None:
    """Put the tensors that wait under the names they are used by."""
    for tensors in _tensors(module):
        for name in list(tensors):
            if name.startswith(OWN_PREFIX + waiting):
                _move(module, tensors, name, name.removeprefix(OWN_PREFIX + waiting))
            elif name.startswith(BUFFER_PREFIX + waiting):
                rest = name.removeprefix(BUFFER_PREFIX + waiting)
                _move(module, tensors, name, BUFFER_PREFIX + rest)


def _tensors(module: nn.Module) -> tuple[dict[str, Tensor | None], dict[str, Tensor | None]]:
    parameters: dict[str, Any] = module._parameters
    return module._buffers, parameters


def _move(module: nn.Module, tensors: dict[str, Tensor | None], name: str, to: str) -> None:
    tensors[to] = tensors.pop(name)
    if tensors is module._buffers:
        hidden = module._non_persistent_buffers_set
        hidden.discard(name)
        if to.startswith(BUFFER_PREFIX):
            hidden.add(to)
