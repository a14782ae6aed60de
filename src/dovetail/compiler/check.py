"""A compiled module compared with the eager one on its example, before anybody uses it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dovetail.compiler.captures import watched
from dovetail.compiler.groups.model import Call, Loops, Program, Reduction
from dovetail.compiler.rounding import MOVES, as_near, in_float64, moved
from dovetail.compiler.variant import Variant
from dovetail.errors import DovetailError

__all__ = ["TOLERANCE", "check", "compare", "is_exact", "is_random"]

#: Largest difference of outputs and gradients, relative to the largest element of the tensor.
TOLERANCE = 1e-4
#: A gradient that is zero but for rounding is compared with the largest one of all instead.
FLOOR = 1e-3
#: No rounding makes a difference of this part of the largest result of all.
JUMP = 0.1
_RANDOM = ("rand", "bernoulli", "dropout", "multinomial", "normal_", "philox")


def is_random(program: Program) -> bool:
    """Whether some operator draws numbers: then two runs differ."""
    keys = [group.key for group in program.groups if isinstance(group, Call)]
    return any(word in key for key in keys for word in _RANDOM)


def is_exact(program: Program) -> bool:
    """Whether every result must have eager's bits: emulated products, and no sums of floats."""
    emulated = False
    for group in program.groups:
        if isinstance(group, Call):
            own = group.key.startswith("dovetail.")
            emulated = emulated or own
            if not own and not any(word in group.key for word in ("pool2d_with_indices", "index")):
                return False
        elif isinstance(group, Loops):
            sums = (s for s in group.body if isinstance(s, Reduction) or s.dear)
            if any(s.dtype.is_floating_point for s in sums):
                return False
    return emulated


def check(
    source: nn.Module, made: Variant, tolerance: float | None, *, gradients: bool
) -> set[CodeType] | None:
    """Refuse ``made`` where its outputs, or with ``gradients`` those, are not those of ``source``.

    Returns the code that ``source`` has run; None where a profiler was in the way.
    """
    with _undisturbed(source), torch.set_grad_enabled(gradients), watched() as ran:
        theirs, their_grads = _run(source, lambda *a, **k: source(*a, **k), made, gradients)
    if is_random(made.forward.program):
        return ran
    exact = tolerance is None and is_exact(made.forward.program)
    limit = 0.0 if exact else TOLERANCE if tolerance is None else tolerance
    with _undisturbed(source), torch.set_grad_enabled(gradients):
        ours, our_grads = _run(source, lambda *a, **k: made.call(a, k), made, gradients)
    finer = _finer(source, made, gradients)
    try:
        _compare_all(ours, theirs, our_grads, their_grads, limit, finer)
    except DovetailError as error:
        if not any(map(_is_one_value, pytree.tree_leaves(made.example))):
            raise
        raise DovetailError(
            f"{error}; the example is one value throughout, of which norms make nothing but "
            "rounding: give inputs such as the model is meant for"
        ) from None
    return ran


def _is_one_value(value: Any) -> bool:
    return _counts(value) and value.numel() > 1 and bool((value == value.flatten()[0]).all())


def _compare_all(
    ours: Sequence[Any],
    theirs: Sequence[Any],
    our_grads: Sequence[Any],
    their_grads: Sequence[Any],
    limit: float,
    finer: Callable[[int], list[list[Any]]],
) -> None:
    compare("output", ours, theirs, limit, 0.0, partial(finer, 0))
    scale = max((float(g.abs().max()) for g in their_grads if _counts(g)), default=0.0)
    most, floor = max(limit, 10 * TOLERANCE), FLOOR * scale
    compare("gradient", our_grads, their_grads, most, floor, partial(finer, 1))


def _emulates(program: Program) -> bool:
    calls = (group for group in program.groups if isinstance(group, Call))
    return any(call.key.startswith("dovetail.") for call in calls)


def _finer(source: nn.Module, made: Variant, gradients: bool) -> Callable[[int], list[list[Any]]]:
    """Outputs (0) or gradients (1) of ``source`` in float64, then moved by last places.

    Nothing where it emulates, or cannot compute in float64.
    """

    @cache
    def runs() -> list[tuple[list[Any], list[Any]]]:
        if _emulates(made.forward.program):
            return []
        try:
            wide = in_float64(source)
            with torch.set_grad_enabled(gradients):
                found = [_run(wide, wide, made, gradients, in_float64)]
                for seed in range(MOVES):
                    near = moved(source, seed)
                    found.append(_run(near, near, made, gradients, partial(moved, seed=seed)))
        except (RuntimeError, TypeError, ValueError, DovetailError):
            return []
        return found

    return lambda which: [run[which] for run in runs()]


def _counts(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() > 0 and value.is_floating_point()


@contextmanager
def _undisturbed(source: nn.Module) -> Iterator[None]:
    """Buffers, gradients and random state come back as they were."""
    buffers = {name: value.clone() for name, value in source.named_buffers()}
    grads = [p.grad for p in source.parameters()]
    with torch.random.fork_rng(enabled=True):
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in source.named_buffers():
                    # Torch does not count all changes, as those by batch norm; writing counts.
                    if not _is_the_same(value, buffers[name]):
                        value.copy_(buffers[name])
            for parameter, grad in zip(source.parameters(), grads, strict=True):
                parameter.grad = grad


def _is_the_same(one: Tensor, two: Tensor) -> bool:
    nan = one.isnan()
    if not torch.equal(nan, two.isnan()):
        return False
    return torch.equal(one.masked_fill(nan, 0), two.masked_fill(nan, 0))


def _run(
    source: nn.Module,
    call: Any,
    made: Variant,
    gradients: bool,
    given: Callable[[Any], Any] = lambda example: example,
) -> tuple[list[Any], list[Any]]:
    """Outputs, and the gradients of a fixed weighting of them: of parameters and inputs."""
    example = (tuple(made.example[0]), dict(made.example[1]))
    args, kwargs = pytree.tree_map(_fresh, given(example))
    outputs = pytree.tree_leaves(call(*args, **kwargs))
    if not gradients:
        return outputs, []
    wanted = [p for p in source.parameters() if p.requires_grad]
    wanted += [a for a in pytree.tree_leaves((args, kwargs)) if _requires_grad(a)]
    tops = [o for o in outputs if _requires_grad(o)]
    weights = [_weights(o) for o in tops]
    if not wanted or not tops:
        return outputs, []
    return outputs, list(torch.autograd.grad(tops, wanted, weights, allow_unused=True))


def _weights(output: Tensor) -> Tensor:
    steps = torch.linspace(-1, 1, output.numel(), dtype=output.dtype, device=output.device)
    return steps.reshape(output.shape)


def _fresh(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return copy.copy(value)
    return value.detach().clone().requires_grad_(value.requires_grad)


def _requires_grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def compare(
    what: str,
    ours: Sequence[Any],
    theirs: Sequence[Any],
    limit: float,
    floor: float,
    finer: Callable[[], Sequence[Sequence[Any]]] | None = None,
) -> None:
    """Refuse tensors that differ by more than ``limit`` of the largest element, or of ``floor``.

    ``finer`` gives the results in float64, then those of eager on moved inputs: where there are
    such, a tensor may also be about as far from the first as one of eager's is, but no further
    than a tenth of the largest result.

    >>> compare("output", [torch.ones(2)], [torch.ones(2)], 0.0, 0.0)
    >>> compare("output", [torch.ones(2)], [torch.zeros(2)], 0.1, 0.0)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: compiled output 0 differs from eager by 1 of its largest ...
    """
    sizes = (float(o.detach().abs().nan_to_num().max()) for o in theirs if _counts(o))
    largest = max(sizes, default=0.0)
    if len(ours) != len(theirs):
        raise DovetailError(f"compiled: {len(ours)} {what}s where eager has {len(theirs)}")
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if not isinstance(other, Tensor):
            continue
        found = _difference(mine, other, floor)
        if not found <= limit:
            wide, *near = (finer() if finer is not None else None) or [[]]
            eager = [other, *(run[number] for run in near)]
            if wide and as_near(mine, eager, wide[number], JUMP * largest):
                continue
            raise DovetailError(
                f"compiled {what} {number} differs from eager by {found:.3g} of its largest "
                f"element, more than {limit:g}: compile(..., tolerance=...) accepts more, and "
                "check=False does not compare"
            )


def _difference(mine: Any, other: Tensor, floor: float) -> float:
    if not isinstance(mine, Tensor) or mine.shape != other.shape or mine.dtype != other.dtype:
        return float("inf")
    if torch.equal(mine, other) or not other.numel():
        return 0.0
    if not other.is_floating_point():
        return float("inf")
    one, two = mine.detach().double(), other.detach().double()
    strange = ~(one.isfinite() & two.isfinite())
    if not torch.equal(one[strange].nan_to_num(), two[strange].nan_to_num()):
        return float("inf")
    one, two = one.masked_fill(strange, 0), two.masked_fill(strange, 0)
    scale = max(float(two.abs().max()), floor)
    return float((one - two).abs().max()) / scale if scale else float((one - two).abs().max())
