"""Rates of their own for learned steps of casts, where an optimizer ignores a gradient's size."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import ASGD, SGD, Optimizer

from dovetail.emulation.learned import learned_parameters

__all__ = ["give_learned_steps_their_rates"]


def give_learned_steps_their_rates(optimizer: Optimizer, model: nn.Module) -> None:
    """Let ``optimizer`` move each learned step of ``model`` in proportion to the step's size.

    Adam and its kin move a parameter by about ``lr`` whatever its gradient. A step is a hundredth
    or so of what it quantises (``1 / qmax``), and a rate that suits weights would throw it about.
    Its own is ``lr`` times its mean, to the nearest power of two, so that many steps make few
    groups. Descent in proportion to the gradient (SGD, ASGD) is left as it is: the factors of LSQ's
    gradient are made for it.

    >>> from dovetail.emulation import apply_
    >>> from dovetail.recipe import Recipe, rule
    >>> net = nn.Sequential(nn.Linear(4, 2))
    >>> _ = nn.init.constant_(net[0].weight, 0.25)
    >>> lsq = Recipe(rule("*", input="int8", weight="int8", grad="ste(lsq)"))
    >>> plan = apply_(net, lsq, torch.ones(1, 4))
    >>> adam = torch.optim.Adam(net.parameters(), lr=0.5)
    >>> give_learned_steps_their_rates(adam, net)
    >>> [(group["lr"], len(group["params"])) for group in adam.param_groups]
    [(0.5, 2), (0.03125, 1), (0.00390625, 1)]
    """
    if isinstance(optimizer, (SGD, ASGD)):
        return
    steps = {
        id(step): _size(step)
        for name, step in learned_parameters(model).items()
        if name.endswith(".scale")
    }
    for group in list(optimizer.param_groups):
        sizes = sorted({steps[id(p)] for p in group["params"] if id(p) in steps}, reverse=True)
        options = {name: value for name, value in group.items() if name != "params"}
        moved = [[p for p in group["params"] if steps.get(id(p)) == size] for size in sizes]
        if not any(moved) or sum(map(len, moved)) == len(group["params"]):
            continue  # a group of steps alone has the rate that its maker gave it
        group["params"] = [p for p in group["params"] if id(p) not in steps]
        for size, params in zip(sizes, moved, strict=True):
            optimizer.add_param_group({**options, "params": params, "lr": options["lr"] * size})


def _size(step: nn.Parameter) -> float:
    mean = float(step.detach().to(torch.float64).abs().mean())
    return 2.0 ** round(math.log2(mean)) if math.isfinite(mean) and mean > 0 else 1.0
