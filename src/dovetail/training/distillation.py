"""Learning from a teacher: the exact model, or any other that takes the same inputs."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dovetail._batches import classes_first
from dovetail._numbers import is_number, is_whole
from dovetail._spelling import named_arguments
from dovetail.emulation import remove_
from dovetail.emulation.taps import emulation_of
from dovetail.errors import DovetailError
from dovetail.training.group import unwrapped

__all__ = ["Distillation", "distillation"]

_OPTIONS = ("temperature", "alpha", "features", "class_axis")


@dataclass(frozen=True)
class Distillation:
    """What is learned from a ``teacher``: ``alpha`` of its way of seeing, the rest of the targets.

    ``"exact"`` is the model itself as it was before training, without its emulation and in eval
    mode; any other ``nn.Module`` is used as it is given, in eval mode, too. The loss is
    ``alpha * D + (1 - alpha) * loss(output, target)``. With T = ``temperature``,
    ``D = T^2 KL(softmax(teacher / T) || softmax(student / T))``, the mean over all but the classes
    (Hinton, Vinyals and Dean, 2015). These are ``class_axis``: by default the second axis, or the
    last one where the target has the shape of all others, as of language models. With ``features``,
    globs on the paths of modules, D is instead the mean over them of
    ``|student - teacher|^2 / |teacher|^2`` of their outputs (hints; Romero et al., FitNets, 2015).

    >>> Distillation("exact", temperature=4.0, alpha=0.9).temperature
    4.0
    """

    teacher: str | nn.Module = "exact"
    temperature: float = 2.0
    alpha: float = 0.5
    features: Sequence[str] = ()
    class_axis: int | None = None

    def __post_init__(self) -> None:
        if self.teacher != "exact" and not isinstance(self.teacher, nn.Module):
            raise DovetailError(f"teacher={self.teacher!r}: give 'exact' or an nn.Module")
        if not is_number(self.temperature) or self.temperature <= 0:
            raise DovetailError(f"temperature={self.temperature!r} must be a number above 0")
        if not is_number(self.alpha) or not 0 <= self.alpha <= 1:
            raise DovetailError(f"alpha={self.alpha!r} of a distillation lies between 0 and 1")
        if self.class_axis is not None and not is_whole(self.class_axis):
            raise DovetailError(f"class_axis={self.class_axis!r}: give the axis of the classes, 1")
        if isinstance(self.features, str):
            object.__setattr__(self, "features", (self.features,))
        named = isinstance(self.features, Sequence)
        if not named or not all(isinstance(one, str) for one in self.features):
            raise DovetailError(
                f"features={self.features!r}: give globs on paths of modules, such as 'blocks.*'"
            )

    def __str__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in _OPTIONS)
        name = self.teacher if isinstance(self.teacher, str) else type(self.teacher).__name__
        return f"{name}({options})"

    def of(self, model: nn.Module) -> Student:
        """``model`` with its teacher at its side; the exact one is copied now."""
        teacher = self.teacher
        if not isinstance(teacher, nn.Module):
            teacher = _exact_copy(model)
        return Student(self, model, teacher.eval())


def distillation(spec: str | nn.Module | Distillation) -> Distillation:
    """What ``dv.fit(distill=...)`` takes: a :class:`Distillation`, its text, or a teacher.

    >>> distillation("exact(temperature=4, alpha=0.9)").alpha
    0.9
    >>> distillation("exact(temp=4)")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown argument in 'exact(temp=4)': 'temp'; did you mean ...
    """
    if isinstance(spec, Distillation):
        return spec
    if isinstance(spec, nn.Module):
        return Distillation(spec)
    if not isinstance(spec, str):
        raise DovetailError(
            f"distill={spec!r}: give 'exact', a teacher (an nn.Module), or a Distillation"
        )
    name, named = named_arguments("distill=", spec, _OPTIONS, "temperature=4")
    return Distillation(name, **named)


class Student:
    """A model and its teacher: calls both, and knows the loss that follows."""

    def __init__(self, how: Distillation, model: nn.Module, teacher: nn.Module) -> None:
        self.how, self.model, self.teacher = how, model, teacher
        self.pairs = _pairs(unwrapped(model), unwrapped(teacher), how.features)

    def loss(
        self, inputs: tuple[Any, ...], target: Tensor, criterion: Callable[[Any, Tensor], Tensor]
    ) -> Tensor:
        """The distillation's loss on one batch."""
        with torch.no_grad(), _outputs([t for _, t in self.pairs]) as hints:
            taught = self.teacher(*inputs)
        with _outputs([s for s, _ in self.pairs]) as seen:
            output = self.model(*inputs)
        own = criterion(output, target)
        alpha = self.how.alpha
        return alpha * self._distance(output, taught, target, seen, hints) + (1 - alpha) * own

    def _distance(
        self, output: Any, taught: Any, target: Tensor, seen: list[Any], hints: list[Any]
    ) -> Tensor:
        if self.pairs:
            apart = [_relative(s, t) for s, t in zip(seen, hints, strict=True)]
            return torch.stack(apart).mean()
        return self._divergence(output, taught, target)

    def _divergence(self, output: Any, taught: Any, target: Tensor) -> Tensor:
        for name, value in (("model", output), ("teacher", taught)):
            if not isinstance(value, Tensor):
                raise DovetailError(
                    f"the {name} gave a {type(value).__name__}: distillation compares logits; "
                    "name modules by features=... to compare those"
                )
        _check_shapes("the model", output, taught)
        axis, t = self.how.class_axis, self.how.temperature
        if axis is None:
            output, taught, axis = classes_first(output, target), classes_first(taught, target), 1
        if not -output.dim() <= axis < output.dim():
            raise DovetailError(
                f"class_axis={axis}: the model gives logits of shape {tuple(output.shape)}"
            )
        student = F.log_softmax(output.float() / t, axis)
        teacher = F.log_softmax(taught.float() / t, axis)
        apart_ = F.kl_div(student, teacher, reduction="none", log_target=True).sum(axis)
        return t * t * apart_.mean()


def _exact_copy(model: nn.Module) -> nn.Module:
    emulation_of(model)  # refuses a model that is exact already
    try:
        teacher = copy.deepcopy(unwrapped(model))
    except (RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
        raise DovetailError(
            f"distill='exact' copies the model, and this one cannot be: {error}. Give a teacher, "
            "such as a copy made before it was wrapped"
        ) from error
    remove_(teacher)
    return teacher.requires_grad_(False)


def _pairs(
    model: nn.Module, teacher: nn.Module, patterns: Sequence[str]
) -> list[tuple[nn.Module, nn.Module]]:
    """The modules of both whose outputs are compared, by their common paths."""
    students, teachers = dict(model.named_modules()), dict(teacher.named_modules())
    paths: list[str] = []
    for pattern in patterns:
        found = [p for p in students if p in teachers and fnmatch.fnmatchcase(p, pattern)]
        if not found:
            raise DovetailError(
                f"features='{pattern}' matches no module that model and teacher share; they have "
                f"{', '.join(sorted((students.keys() & teachers.keys()) - {''})) or 'none'}"
            )
        paths += found
    return [(students[path], teachers[path]) for path in dict.fromkeys(paths)]


@contextmanager
def _outputs(modules: Sequence[nn.Module]) -> Iterator[list[Any]]:
    """What each module gave in its last call."""
    seen: list[Any] = [None] * len(modules)

    def keep(place: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            seen[place] = output

        return hook

    hooks = [module.register_forward_hook(keep(i)) for i, module in enumerate(modules)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _check_shapes(what: str, student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise DovetailError(
            f"{what} gave shape {tuple(student.shape)}, and its teacher {tuple(teacher.shape)}: "
            "only tensors of one shape are compared"
        )


def _relative(student: Any, teacher: Any) -> Tensor:
    for value in (student, teacher):
        if not isinstance(value, Tensor):
            raise DovetailError(
                f"a module of features=... gave a {type(value).__name__}: only tensors are compared"
            )
    _check_shapes("a module of features=...", student, teacher)
    apart = (student.float() - teacher.float()).square().sum()
    relative: Tensor = apart / teacher.float().square().sum().clamp(min=1e-30)
    return relative
