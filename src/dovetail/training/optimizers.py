"""The optimizer of a training: one of torch's by name, one that a function makes, or one given."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from dovetail._numbers import is_number
from dovetail._spelling import parse_call
from dovetail.errors import DovetailError, unknown

__all__ = ["named_optimizer", "optimizer_for"]

LR = 5e-4


def _known() -> dict[str, type[Optimizer]]:
    found = (value for value in vars(torch.optim).values() if isinstance(value, type))
    return {c.__name__.lower(): c for c in found if issubclass(c, Optimizer) and c != Optimizer}


#: What none of them can be trained with here, and why.
_OTHERS = {
    "lbfgs": "calls the loss several times a step, which dv.fit does once",
    "sparseadam": "takes sparse gradients alone",
}


def named_optimizer(text: str) -> Callable[..., Optimizer]:
    """The optimizer of ``torch.optim`` that a text names in lower case, with its options.

    >>> sgd = named_optimizer("sgd(momentum=0.9)")
    >>> sgd([torch.zeros(1, requires_grad=True)], lr=0.1).param_groups[0]["momentum"]
    0.9
    >>> named_optimizer("adamm")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown optimizer 'adamm'; did you mean 'adam'? ...
    >>> named_optimizer("sgd(momentun=0.9)")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: optimizer 'sgd(momentun=0.9)': SGD.__init__() got ...
    """
    name, args, named = parse_call(text)
    known = _known()
    if name not in known:
        raise unknown("optimizer", name, known)
    if name in _OTHERS:
        raise DovetailError(f"optimizer '{text}': {name} {_OTHERS[name]}; take 'adam'")
    if args:
        raise DovetailError(f"optimizer '{text}': name its arguments, as in sgd(momentum=0.9)")
    if "lr" in named:
        raise DovetailError(
            f"optimizer '{text}': the learning rate is said apart, lr={named['lr']}"
        )

    def make(parameters: Iterable[torch.Tensor], lr: float) -> Optimizer:
        try:
            return known[name](parameters, lr=lr, **named)  # type: ignore[call-arg]
        except (TypeError, ValueError) as error:
            raise DovetailError(f"optimizer '{text}': {error}") from None

    make([torch.zeros(1, 1, requires_grad=True)], lr=1e-3)  # what is wrong is said now
    return make


def optimizer_for(
    parameters: list[nn.Parameter],
    given: str | Optimizer | Callable[..., Optimizer],
    lr: float | None = None,
) -> Optimizer:
    """The optimizer that ``dv.fit(optimizer=given, lr=lr)`` asks for: one given is checked.

    >>> weight = nn.Parameter(torch.zeros(1))
    >>> optimizer_for([weight], "sgd(momentum=0.9)").param_groups[0]["lr"]
    0.0005
    """
    if isinstance(given, Optimizer):
        if lr is not None:
            raise DovetailError(
                f"lr is {lr}, but the optimizer given has its own: leave lr out, or give a "
                "function such as torch.optim.AdamW"
            )
        moved = {id(p) for group in given.param_groups for p in group["params"]}
        if not any(id(parameter) in moved for parameter in parameters):
            raise DovetailError(
                f"the {type(given).__name__} given moves no parameter of this model: make it of "
                "model.parameters(), after the model was wrapped or sharded"
            )
        return given
    lr = LR if lr is None else lr
    if not is_number(lr) or lr <= 0:
        raise DovetailError(f"lr is {lr!r}; a learning rate is a positive number, such as 5e-4")
    if not isinstance(given, str) and not callable(given):
        raise DovetailError(
            f"optimizer={given!r}: give a name, such as 'adam', a function of (parameters, lr=lr), "
            "or an optimizer"
        )
    made = (named_optimizer(given) if isinstance(given, str) else given)(parameters, lr=lr)
    if not isinstance(made, Optimizer):
        raise DovetailError(
            f"optimizer={given!r} made a {type(made).__name__}, no torch.optim.Optimizer"
        )
    return made
