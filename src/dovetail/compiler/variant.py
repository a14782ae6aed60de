"""A module compiled for one mode and one shape: its functions, and how they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.utils import _pytree as pytree

from dovetail.compiler.captures import Shelf
from dovetail.compiler.frozen import Frozen
from dovetail.compiler.passes.pipeline import Pipeline
from dovetail.compiler.place import refuse_elsewhere
from dovetail.compiler.record import Record
from dovetail.compiler.state import slot_of, state_of
from dovetail.compiler.unit import Unit
from dovetail.errors import DovetailError

__all__ = ["StaleError", "Variant"]


class StaleError(Exception):
    """The module is no longer what was compiled."""


class Variant:
    """``record`` of ``source`` as compiled functions: call it with arguments of their shapes."""

    def __init__(
        self,
        source: nn.Module,
        record: Record,
        pipeline: Pipeline,
        example: tuple[Sequence[Any], Mapping[str, Any]],
        gradients: bool,
        shelf: Shelf,
    ) -> None:
        self.record, self.example, self.gradients, self.shelf = record, example, gradients, shelf
        self.place = record.place
        pipeline = pipeline.on(self.place.target)
        self.forward = Unit(record.forward, pipeline, self.place)
        after = record.backward
        self.backward = None if after is None else Unit(after, pipeline, self.place)
        #: Whether it was compared with eager, and when.
        self.checked = ""
        args, kwargs = example
        given = (None,) if kwargs else tuple(args)
        dynamic = bool(record.forward.symbols)
        self._state = state_of(source, record.inputs, gradients, given, dynamic)
        frozen = [slot_of(source, path) for path in record.frozen]
        self._frozen = Frozen(frozen) if frozen else None
        #: What :meth:`run` takes for a tuple of arguments; None where only :meth:`call` can say.
        self.ready = self._state.ready if self._frozen is None else self._ready_unless_frozen
        self._updates = list(record.forward.updates.items())
        self._written = record.forward.written
        self._mutated = record.mutated
        self._single = record.output_spec.is_leaf()
        self._step = None if self.backward is None else _Step(self)

    @property
    def units(self) -> list[Unit]:
        """The compiled functions: forward, and backward if there is one."""
        return [unit for unit in (self.forward, self.backward) if unit is not None]

    @property
    def outdated(self) -> bool:
        """Whether a parameter has changed that was frozen."""
        return self._frozen is not None and self._frozen.changed()

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The module's outputs for ``args``, in the structure that it returns them in.

        Raises :class:`StaleError` where the module has changed since.
        """
        flat: list[Any] | None = self._state()
        if flat is None:
            raise StaleError
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            flat.append(args[0])
        else:
            flat += pytree.tree_leaves((tuple(args), dict(kwargs)))
        if self.place.target == "cuda":
            assert self.forward.kernel  # or the reason why there is none
            refuse_elsewhere(flat, self.place.device)
        return self.run(flat)

    def run(self, flat: list[Any]) -> Any:
        """The module's outputs for its parameters, its buffers and the flat arguments."""
        outputs = self._run(flat) if self._step is None else self._step(flat)
        if self._single:
            return outputs[0]
        return pytree.tree_unflatten(outputs, self.record.output_spec)

    def _ready_unless_frozen(self, args: tuple[Any, ...]) -> list[Any] | None:
        return None if self.outdated else self._state.ready(args)

    def release(self) -> None:
        """Give back the memory of results that is kept for the next call."""
        for unit in self.units:
            unit.release()

    def samples(self) -> list[list[Any]]:
        """Inputs of the forward function at the example, and of the backward one if there is one.

        They are copies: nothing of the module changes when they are written to.
        """
        state = self._state()
        if state is None:
            raise DovetailError(
                "the module has changed since it was compiled, in its mode, a parameter or a "
                "buffer: call it once, which compiles it anew, and ask again"
            )
        flat = [_copied(x) for x in (*state, *pytree.tree_leaves(self.example))]
        if self._step is None:
            return [flat]
        with torch.no_grad():
            results = self.forward([_copied(x) for x in flat])[self._mutated :]
        saved = self._step.saved(flat, results)
        outputs = results[: self._step.results]
        wanted = zip(outputs, self._step.differentiable, strict=True)
        ones = [torch.ones_like(o) for o, d in wanted if d]
        return [flat, saved + self._step.laid(ones)]

    def _run(self, flat: list[Any]) -> list[Any]:
        unit = self.forward
        if unit.plain and not self._mutated:
            outputs: list[Any] = unit.kernel.run(flat)  # nothing that autograd could record
            return outputs
        with torch.no_grad():
            return self.update(flat, unit(flat))

    def update(self, flat: Sequence[Any], results: list[Any]) -> list[Any]:
        """Give buffers their new values, and let torch know of all that have; returns the rest."""
        if self._written:
            increment_version([t for t in map(flat.__getitem__, self._written) if _counts(t)])
        for number, into in self._updates:
            flat[into].copy_(results[number])
        return results[self._mutated :]


class _Step:
    """The forward function as a node of autograd, whose backward is the backward function."""

    def __init__(self, variant: Variant) -> None:
        record, after = variant.record, variant.backward
        assert after is not None
        self.variant, self.after = variant, after
        self.results = record.results
        self.differentiable = record.differentiable
        self.sources = record.sources
        names = after.program.inputs[len(self.sources) :]
        #: Saved tensors whose memory the backward function uses for others.
        self.donated = [after.program.inputs.index(name) for name in after.program.donated]
        self.layouts = [after.program.given.get(str(name)) for name in names]

    def __call__(self, flat: list[Any]) -> list[Any]:
        outputs = _Function.apply(self, *flat)  # type: ignore[no-untyped-call]
        return list(outputs)

    def forward(self, ctx: Any, flat: Sequence[Any]) -> tuple[Any, ...]:
        results = self.variant.update(flat, self.variant.forward(flat))
        outputs, saved = results[: self.results], self.saved(flat, results)
        kept = [s if isinstance(s, Tensor) else None for s in saved]
        ctx.save_for_backward(*kept)
        ctx.hooked = _top_hooks(True) is not None
        ctx.numbers = [None if isinstance(s, Tensor) else s for s in saved]
        plain = [o for o, d in zip(outputs, self.differentiable, strict=True) if not d]
        ctx.mark_non_differentiable(*(o for o in plain if isinstance(o, Tensor)))
        return tuple(outputs)

    def backward(self, ctx: Any, grads: Sequence[Any]) -> tuple[Any, ...]:
        kept = zip(ctx.saved_tensors, ctx.numbers, strict=True)
        inputs = [number if tensor is None else tensor for tensor, number in kept]
        if self.donated and (ctx.hooked or _keeps_graph()):
            for place in self.donated:  # somebody may look at it again
                inputs[place] = inputs[place].clone()
        wanted = [g for g, d in zip(grads, self.differentiable, strict=True) if d]
        return (None, *self.after(inputs + self.laid(wanted)))

    def saved(self, flat: Sequence[Any], results: Sequence[Any]) -> list[Any]:
        """What the backward function takes of the forward one's inputs and results."""
        made = results[self.results :]
        return [flat[n] if given else made[n] for given, n in self.sources]

    def laid(self, grads: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the outputs with the strides that were compiled for."""
        return [_laid(g, layout) for g, layout in zip(grads, self.layouts, strict=True)]


#: Whether what is saved stays for another backward, and who is shown what is saved.
_keeps_graph = torch._C._autograd._get_current_graph_task_keep_graph
_top_hooks = torch._C._autograd._top_saved_tensors_default_hooks


def _counts(tensor: Tensor) -> bool:
    """Whether torch counts the tensor's changes."""
    return not tensor.is_inference()


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _laid(grad: Tensor, layout: Any) -> Tensor:
    """``grad`` with the strides that the backward function was compiled for."""
    if layout is None or grad.stride() == layout.strides:
        return grad
    if not all(isinstance(s, int) for s in layout.strides):
        return grad.contiguous()
    shape, strides = layout.shape, layout.strides
    laid = torch.empty_strided(shape, strides, dtype=grad.dtype, device=grad.device)
    return laid.copy_(grad)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: _Step, *flat: Any) -> Any:
        ctx.step = step
        return step.forward(ctx, flat)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.step.backward(ctx, grads)
