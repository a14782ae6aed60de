"""What emulation adds to a model, saved and put back: the recipe, ranges, masks, transforms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from dovetail.emulation.apply import apply_, remove_
from dovetail.emulation.mode import ENTRY
from dovetail.emulation.several import apply_several_, norms_of, recipes, several_of, switch
from dovetail.emulation.site import Site
from dovetail.emulation.sparsifying import held, put_back
from dovetail.emulation.taps import emulation_of
from dovetail.emulation.transforms import PARTS, add_transform, tensors
from dovetail.errors import DovetailError
from dovetail.recipe import Recipe

__all__ = ["load_state", "sites", "state"]

_RECIPE = "dovetail.recipe"
_SEVERAL = "dovetail.several"


def sites(model: nn.Module) -> Iterator[tuple[Site, nn.Module]]:
    """Every planned operation of an emulated model with the module that owns it, once each."""
    for module in model.modules():
        entry = module.__dict__.get(ENTRY)
        if entry is not None:
            for by_index in entry.sites.values():
                for site in by_index.values():
                    yield site, module


def state(model: nn.Module) -> dict[str, Tensor]:
    """The recipe, ranges, masks, scores and what recovery recipes put before the casts, as a flat
    dict of tensors.

    ``safetensors.torch.save_file(dv.state(model), path)`` writes it. The recipe stands under
    ``dovetail.recipe`` as UTF-8 bytes, a range under ``<operation>.<slot>.scale`` (float32) and
    ``.zero`` (int32), a fixed mask under ``<operation>.mask`` (bool), learned scores, or what other
    scores are made of, under ``<operation>.scores``, the tensors of a recovery recipe under
    ``<operation>.transform0.smooth.scale`` and the like, in the order of their use. Together with
    the model's own ``state_dict()`` this restores everything. Of several recipes
    (:func:`dovetail.apply_several_`) all of it stands under ``<recipe>/``, with the
    normalisations' own tensors under ``<recipe>/norm/``.
    """
    if not recipes(model):
        return _state(model)
    several = several_of(model)
    active = several.active
    about = {"active": active, "norms": several.norms, "names": list(several.entries)}
    found = {_SEVERAL: _as_tensor(json.dumps(about))}
    try:
        for name in several.entries:
            switch(model, name)
            own = {f"norm/{key}": value for key, value in norms_of(model).items()}
            for key, value in (_state(model) | own).items():
                found[f"{name}/{key}"] = value.detach().clone()
    finally:
        switch(model, active)
    return found


def _state(model: nn.Module) -> dict[str, Tensor]:
    """That of the active recipe."""
    from dovetail.recipe.schema import spell_rules

    rules = emulation_of(model).plan.recipe.rules
    text = spell_rules(rules) if rules else ""
    found = {_RECIPE: _as_tensor(text)}
    for site, module in sites(model):
        for slot in {**site.buffers, **site.learned}:
            if site.ranges != "missing" or slot not in site.buffers:
                scale, zero = site.range(module, slot)
                assert scale is not None
                assert zero is not None
                found[f"{site.op.key}.{slot}.scale"] = scale.detach().clone()
                found[f"{site.op.key}.{slot}.zero"] = zero.detach().clone()
        for part, value in held(site, module).items():
            found[f"{site.op.key}.{part}"] = value.detach().clone().contiguous()
        for place, kind, parts in tensors(site, module):
            for part, value in parts.items():
                name = f"{site.op.key}.transform{place}.{kind}.{part}"
                found[name] = value.detach().clone().contiguous()
    return found


def load_state(model: nn.Module, saved: Mapping[str, Tensor], example: object = None) -> None:
    """Apply the saved recipe to a fresh ``model`` and restore its ranges, masks and scores.

    ``example`` is needed when operations other than ``nn.Linear`` and ``nn.Conv`` modules are
    addressed. What belongs to no operation, or an operation whose range is missing, is refused, and
    the model left as it was.
    """
    if _SEVERAL in saved:
        _load_several(model, saved, example)
        return
    apply_(model, _recipe(saved), example)
    try:
        _restore(model, saved)
    except BaseException:
        remove_(model)
        raise


def _load_several(model: nn.Module, saved: Mapping[str, Tensor], example: object) -> None:
    about = json.loads(_as_text(saved[_SEVERAL]))
    parts = {
        name: {k.removeprefix(f"{name}/"): v for k, v in saved.items() if k.startswith(f"{name}/")}
        for name in about["names"]
    }
    made = {name: _recipe(part) for name, part in parts.items()}
    before = {key: value.detach().clone() for key, value in model.state_dict().items()}
    apply_several_(model, made, example, norms=about["norms"])
    try:
        for name, part in parts.items():
            switch(model, name)
            _restore_norms(model, part)
            _restore(model, {k: v for k, v in part.items() if not k.startswith("norm/")})
        switch(model, about["active"])
    except BaseException:
        remove_(model)
        model.load_state_dict(before)
        raise


def _restore_norms(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    own = norms_of(model)
    for key in own.keys() ^ {k.removeprefix("norm/") for k in saved if k.startswith("norm/")}:
        where = "the model" if key in own else "the saved state"
        raise DovetailError(f"only {where} has a normalisation's '{key}'")
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(saved[f"norm/{key}"])


def _recipe(saved: Mapping[str, Tensor]) -> Recipe:
    from dovetail.recipe.schema import loads

    if _RECIPE not in saved:
        raise DovetailError(f"this is no dovetail state: it has no '{_RECIPE}'")
    text = _as_text(saved[_RECIPE])
    return loads(text, "saved state").recipe if text else Recipe()


def _as_tensor(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _as_text(saved: Tensor) -> str:
    return bytes(saved.tolist()).decode()


def _restore(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    wanted = set(saved) - {_RECIPE}
    for site, module in sites(model):
        for slot in {**site.buffers, **site.learned}:
            names = [f"{site.op.key}.{slot}.{part}" for part in ("scale", "zero")]
            if not wanted.issuperset(names):
                raise DovetailError(f"the saved state has no range for the {slot} of {site.op.key}")
            site.set_range(module, slot, saved[names[0]], saved[names[1]])
            wanted.difference_update(names)
        if site.buffers:
            site.ranges = "calibrated"
        parts = {part: f"{site.op.key}.{part}" for part in ("mask", "scores")}
        put_back(site, module, {p: saved[name] for p, name in parts.items() if name in wanted})
        wanted.difference_update(parts.values())
        wanted.difference_update(_restore_transforms(site, module, saved))
    if wanted:
        raise DovetailError(
            f"the saved state has values for no operation: {', '.join(sorted(wanted))}"
        )


def _restore_transforms(site: Site, module: nn.Module, saved: Mapping[str, Tensor]) -> list[str]:
    """Put back what recovery recipes had added; the names that this used up."""
    start = f"{site.op.key}.transform"
    found: dict[tuple[int, str], dict[str, Tensor]] = {}
    used = []
    for name, value in saved.items():
        words = name.removeprefix(start).split(".") if name.startswith(start) else []
        if len(words) == 3 and words[0].isdigit() and words[2] in PARTS.get(words[1], ()):
            found.setdefault((int(words[0]), words[1]), {})[words[2]] = value
            used.append(name)
    for number, ((place, kind), parts) in enumerate(sorted(found.items(), key=lambda f: f[0])):
        missing = [part for part in PARTS[kind] if part not in parts]
        if place != number or missing:
            gap = f"{start}{place}.{kind}.{missing[0]}" if missing else f"{start}{number}"
            raise DovetailError(f"the saved state has no '{gap}'")
        add_transform(site, module, kind, parts)
    return used
