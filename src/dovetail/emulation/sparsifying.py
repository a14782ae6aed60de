"""The weight of a planned operation without what its sparsity does not keep.

    weight -> scores -> mask -> weight * mask -> (casts, product)

The mask is chosen from the weight as it is, before any cast, so no cast changes it. It follows the
weight (and what else its scores are made of), and is kept until one of them changes; a ``fixed``
one stands in a buffer of the module instead. So do the data that ``wanda``, ``gradient`` and
``movement`` need; learned scores are a parameter.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from dovetail.emulation.site import Site
from dovetail.emulation.swap import Emulated
from dovetail.errors import DovetailError
from dovetail.formats.philox import seed_from
from dovetail.kernels.mask_library import mask_of
from dovetail.kernels.weight_cache import cached
from dovetail.kinds import block_axis
from dovetail.sparsity import Bernoulli, Sparsity, score
from dovetail.sparsity.gradient import masked
from dovetail.sparsity.scores import DATA_SCORES

__all__ = [
    "choose_mask",
    "current_mask",
    "held",
    "prepare",
    "put_back",
    "set_scores",
    "sparse_weight",
]


def sparse_weight(site: Site, module: nn.Module, weight: Tensor) -> Tensor:
    """``weight`` with zeros where the site's sparsity keeps nothing; the gradient is the mode's.

    While nothing records, it is the same tensor as long as the weight and its mask are.
    """
    chosen = site.sparsity
    if chosen is None:
        return weight
    draws = chosen.pattern.draws and module.training
    mask = _drawn(site, module, weight) if draws else current_mask(site, module, weight)
    if _traced() or torch.is_grad_enabled():
        scores = module._parameters[site.scores] if chosen.learned else None
        return masked(weight, mask, chosen.backward, scores, kept_scores=chosen.kept_scores)
    place: list[Tensor] = cached(weight, ("sparse", site.op.key), list)
    if not place or place[0] is not mask:
        place[:] = [mask, masked(weight, mask)]
    return place[1]


def current_mask(site: Site, module: nn.Module, weight: Tensor) -> Tensor:
    """The mask that a call outside training uses."""
    chosen = site.sparsity
    assert chosen is not None
    if chosen.fixed:
        mask = module._buffers.get(site.mask)
        if mask is None:
            raise DovetailError(f"{site.op.key}: its mask is not chosen yet; {_remedy(site)}")
        return mask
    data = _data(site, module)

    def make() -> Tensor:
        return _made(site, chosen, weight, data)

    if _traced():
        return make()
    with torch.no_grad():
        if chosen.learned and data is not None:
            return cached(data, ("mask", chosen, weight.shape), make)
        state = None if data is None else (data.data_ptr(), data._version)
        return cached(weight, ("mask", chosen, site.op.key, state), make)


def choose_mask(site: Site, module: nn.Module, weight: Tensor) -> None:
    """Choose a fixed mask from the weight as it is now, in place of an earlier one."""
    assert site.sparsity is not None
    mask = _made(site, site.sparsity, weight, _data(site, module))
    module.register_buffer(site.mask, mask, persistent=False)


def set_scores(site: Site, module: nn.Module, data: Tensor, weight: Tensor | None) -> None:
    """Store what calibration gathered, and choose the mask if it is to be fixed."""
    module.register_buffer(site.scores, data.detach().clone(), persistent=False)
    if site.sparsity is not None and site.sparsity.fixed and weight is not None:
        choose_mask(site, module, weight)


def held(site: Site, module: nn.Module) -> dict[str, Tensor]:
    """The site's tensors in its module: ``mask``, ``scores``, those that there are."""
    found = {"mask": module._buffers.get(site.mask), "scores": module._buffers.get(site.scores)}
    if site.sparsity is not None and site.sparsity.learned:
        found["scores"] = module._parameters[site.scores]
    return {part: value for part, value in found.items() if value is not None}


def put_back(site: Site, module: nn.Module, saved: dict[str, Tensor]) -> None:
    """Restore what :func:`held` gave; learned scores in place, for those who train them."""
    for part, value in saved.items():
        name = site.mask if part == "mask" else site.scores
        if name in module._parameters:
            with torch.no_grad():
                getattr(module, name).copy_(value)
        else:
            module.register_buffer(name, value.detach().clone(), persistent=False)


def prepare(site: Site, module: nn.Module, weight: Tensor | None) -> None:
    """What a site needs before its first call: a parameter of scores, or a fixed mask."""
    chosen = site.sparsity
    if chosen is None or not (chosen.learned or chosen.fixed) or chosen.score in DATA_SCORES:
        return
    if weight is None:
        raise DovetailError(
            f"{site.op.key}: sparsity={chosen} is sized by the weight, which only "
            "an example shows: give one to apply_"
        )
    if chosen.fixed:
        choose_mask(site, module, weight)
        return
    if not isinstance(module, Emulated):
        raise DovetailError(
            f"{site.op.key}: sparsity={chosen} needs a parameter that state_dict() does not show, "
            "which a traced graph or a module with a forward of its own cannot have; the nearest "
            "that works is score=magnitude"
        )
    by_size = replace(chosen, score="magnitude", backward="ste", kept_scores=False)
    start = _scores(by_size, weight, None).to(torch.float32)
    module.register_parameter(site.scores, nn.Parameter(start.clone()))


def _traced() -> bool:
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def _drawn(site: Site, module: nn.Module, weight: Tensor) -> Tensor:
    """A mask of this call alone."""
    chosen = site.sparsity
    assert chosen is not None
    assert isinstance(chosen.pattern, Bernoulli)
    scores = _scores(chosen, weight, _data(site, module))
    return chosen.pattern.drawn(scores.detach(), seed_from(None, weight.device))


def _data(site: Site, module: nn.Module) -> Tensor | None:
    """What the scores are made of besides the weight, or are themselves."""
    assert site.sparsity is not None
    if site.sparsity.learned:
        return module._parameters[site.scores]
    if site.sparsity.score not in DATA_SCORES:
        return None
    data = module._buffers.get(site.scores)
    if data is None:
        raise DovetailError(f"{site.op.key}: its scores are not known yet; {_remedy(site)}")
    return data


def _remedy(site: Site) -> str:
    assert site.sparsity is not None
    inside = "model(batch)" if site.sparsity.score == "wanda" else "loss(model(batch)).backward()"
    return f"gather what they need by 'with dv.calibrate(model): {inside}'"


def _made(site: Site, chosen: Sparsity, weight: Tensor, data: Tensor | None) -> Tensor:
    scores, axis = _scores(chosen, weight, data), block_axis(site.op.kind, "weight")
    return mask_of(scores, site.sparsity_text, axis, site.stream)


def _scores(chosen: Sparsity, weight: Tensor, data: Tensor | None) -> Tensor:
    return _probabilities(chosen, score(chosen.score, weight, data))


def _probabilities(chosen: Sparsity, scores: Tensor) -> Tensor:
    """Scores that are to be probabilities, divided by the largest; learned ones are as they are."""
    if not chosen.pattern.takes_probabilities or chosen.learned or not scores.numel():
        return scores
    return scores / torch.where(torch.isfinite(scores), scores, 0).amax().clamp(min=1e-30)
