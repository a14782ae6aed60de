"""The parameters that emulation itself trains: learned steps of casts, learned scores of masks."""

from __future__ import annotations

from torch import nn

from dovetail.emulation.state import sites

__all__ = ["learned_parameters"]


def learned_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """By the name they have in :func:`dovetail.state`: ``<operation>.<slot>.scale`` or ``.scores``.

    ``model.parameters()`` has them too, so every optimiser and ``dv.fit`` train them;
    ``state_dict()`` has not. An optimiser that gives them a rate of their own takes them from here.
    A step is there once its range is known: from an example, or from calibration.

    >>> import torch
    >>> from dovetail.emulation import apply_
    >>> from dovetail.recipe import Recipe, rule
    >>> net = nn.Sequential(nn.Linear(4, 2))
    >>> plan = apply_(
    ...     net, Recipe(rule("*", input="int8", weight="int8", grad="ste(lsq)")), torch.ones(1, 4)
    ... )
    >>> {name: tuple(step.shape) for name, step in learned_parameters(net).items()}
    {'0.input.scale': (), '0.weight.scale': (2,)}
    >>> sorted(net.state_dict())
    ['0.bias', '0.weight']
    """
    found: dict[str, nn.Parameter] = {}
    for site, module in sites(model):
        names = {f"{slot}.scale": f"{name}_scale" for slot, name in site.learned.items()}
        for part, name in {**names, "scores": site.scores}.items():
            parameter = module._parameters.get(name)
            if isinstance(parameter, nn.Parameter):
                found[f"{site.op.key}.{part}"] = parameter
    return found
