"""A module compiled for one mode and one shape: its functions, and how they are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from dovetail.compiler.capture import Capture, capture
from dovetail.compiler.device import place_of, refuse_elsewhere, whole_attention
from dovetail.compiler.frozen import Frozen, Slot, mark
from dovetail.compiler.passes.pipeline import Pipeline
from dovetail.compiler.unit import Unit

__all__ = ["Variant"]


class Variant:
    """What was compiled for ``args``: call it with arguments of their shapes."""

    def __init__(
        self,
        source: nn.Module,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        gradients: bool,
        pipeline: Pipeline,
        options: Mapping[str, Any],
    ) -> None:
        self.args, self.kwargs, self.gradients = args, kwargs, gradients
        self.place = place_of(_named(source, args, kwargs), options["target"])
        pipeline = pipeline.on(self.place.target)
        with whole_attention(self.place.target):
            found = capture(source, args, kwargs, backward=gradients, dynamic=options["dynamic"])
        # a parameter's place may be given another tensor at any time: it is looked up at each call
        slots = [_slot(source, name) for name in (*found.parameters, *found.buffers)]
        self._slots, self._frozen = slots, None
        if options["freeze"]:
            self._slots, self._frozen = _with_constants(found, slots, pipeline)
        else:
            found.forward = pipeline.on_graph(found.forward)
        if found.backward is not None:
            pair = (found.forward, found.backward)
            found.forward, found.backward = pipeline.run("post_autodiff", pair)
        self.captured: Capture = found
        updates = dict(enumerate(found.mutated))
        self.forward = Unit("forward", found.forward, pipeline, updates, self.place)
        self.backward = (
            None
            if found.backward is None
            else Unit("backward", found.backward, pipeline, place=self.place)
        )
        program = self.forward.program
        self._updates = [(out, into) for out, into in program.updates.items()]
        self._mutated = len(found.mutated)
        self._single = found.output_spec.is_leaf()
        self._step = None if self.backward is None else _Step(self)

    @property
    def outdated(self) -> bool:
        """Whether a parameter has changed that was frozen."""
        return self._frozen is not None and self._frozen.changed()

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The module's outputs for ``args``, in the structure that it returns them in."""
        flat: list[Any] = [holder[name] for holder, name in self._slots]
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            flat.append(args[0])
        else:
            flat += pytree.tree_leaves((tuple(args), dict(kwargs)))
        if self.place.target == "cuda":
            assert self.forward.kernel  # or the reason why there is none
            refuse_elsewhere(flat, self.place.device)
        outputs = self._run(flat) if self._step is None else self._step(flat)
        if self._single:
            return outputs[0]
        return pytree.tree_unflatten(outputs, self.captured.output_spec)

    def _run(self, flat: list[Any]) -> list[Any]:
        kernel = self.forward.kernel
        if kernel.plain and not self._mutated:
            outputs: list[Any] = kernel.run(flat)  # nothing that autograd could record
            return outputs
        with torch.no_grad():
            return self.update(flat, kernel(flat))

    def update(self, flat: Sequence[Any], results: list[Any]) -> list[Any]:
        """Give buffers their new values; returns the other results."""
        for number, into in self._updates:
            flat[into].copy_(results[number])
        return results[self._mutated :]


def _with_constants(
    found: Capture, slots: Sequence[Slot], pipeline: Pipeline
) -> tuple[list[Slot], Frozen]:
    """After the passes over the graph, to which parameters are constants: those that are left as
    inputs, and those that are not."""
    mark(found.forward, slots, found.mutated)
    names = [n.name for n in found.forward.graph.find_nodes(op="placeholder")]
    found.forward = pipeline.on_graph(found.forward)
    left = [n.name for n in found.forward.graph.find_nodes(op="placeholder")]
    found.mutated = tuple(left.index(names[number]) for number in found.mutated)
    kept = [slot for slot, name in zip(slots, names, strict=False) if name in left]
    gone = [slot for slot, name in zip(slots, names, strict=False) if name not in left]
    return kept, Frozen(gone)


def _named(
    source: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Every tensor that is computed with, as an error calls it."""
    for name, value in (*source.named_parameters(), *source.named_buffers()):
        yield f"'{name}'", value
    for number, leaf in enumerate(pytree.tree_leaves((tuple(args), dict(kwargs)))):
        yield f"input {number} of the example", leaf


def _slot(source: nn.Module, path: str) -> Slot:
    """The dictionary that a parameter or a buffer is in, and its name there."""
    owner, _, name = path.rpartition(".")
    holder = source.get_submodule(owner)
    own = holder._parameters if name in holder._parameters else holder._buffers
    return own, name


class _Step:
    """The forward function as a node of autograd, whose backward is the backward function."""

    def __init__(self, variant: Variant) -> None:
        found, after = variant.captured, variant.backward
        assert after is not None
        self.variant, self.after = variant, after
        self.results = found.results
        self.differentiable = found.differentiable
        self.sources, self.tangents = _sources(found)
        names = after.program.inputs[len(self.sources) :]
        self.layouts = [after.program.given.get(str(name)) for name in names]

    def __call__(self, flat: list[Any]) -> list[Any]:
        outputs = _Function.apply(self, *flat)  # type: ignore[no-untyped-call]
        return list(outputs)

    def forward(self, ctx: Any, flat: Sequence[Any]) -> tuple[Any, ...]:
        results = self.variant.update(flat, self.variant.forward.kernel(flat))
        outputs, made = results[: self.results], results[self.results :]
        saved = [flat[n] if given else made[n] for given, n in self.sources]
        kept = [s if isinstance(s, Tensor) else None for s in saved]
        ctx.save_for_backward(*kept)
        ctx.numbers = [None if isinstance(s, Tensor) else s for s in saved]
        plain = [o for o, d in zip(outputs, self.differentiable, strict=True) if not d]
        ctx.mark_non_differentiable(*(o for o in plain if isinstance(o, Tensor)))
        return tuple(outputs)

    def backward(self, ctx: Any, grads: Sequence[Any]) -> tuple[Any, ...]:
        kept = zip(ctx.saved_tensors, ctx.numbers, strict=True)
        inputs = [number if tensor is None else tensor for tensor, number in kept]
        wanted = [g for g, d in zip(grads, self.differentiable, strict=True) if d]
        inputs += [_laid(g, layout) for g, layout in zip(wanted, self.layouts, strict=True)]
        return (None, *self.after.kernel(inputs))


def _laid(grad: Tensor, layout: Any) -> Tensor:
    """``grad`` with the strides that the backward function was compiled for."""
    if layout is None or grad.stride() == layout.strides:
        return grad
    if not all(isinstance(s, int) for s in layout.strides):
        return grad.contiguous()
    shape, strides = layout.shape, layout.strides
    laid = torch.empty_strided(shape, strides, dtype=grad.dtype, device=grad.device)
    return laid.copy_(grad)


def _sources(found: Capture) -> tuple[list[tuple[bool, int]], int]:
    """Where each saved input of the backward graph is: an input of the forward one, or a result.

    The last are numbered after the outputs.
    """
    assert found.backward is not None
    given = {n.name: i for i, n in enumerate(found.forward.graph.find_nodes(op="placeholder"))}
    skip = len(found.mutated) + found.results
    made = {
        n.name: i for i, n in enumerate(_returned(found.forward)[skip:]) if isinstance(n, fx.Node)
    }
    sources: list[tuple[bool, int]] = []
    tangents = 0
    for node in found.backward.graph.find_nodes(op="placeholder"):
        if node.name in made and node.name not in given:
            sources.append((False, made[node.name]))
        elif node.name in given:
            sources.append((True, given[node.name]))
        else:
            tangents += 1
    return sources, tangents


def _returned(graph: fx.GraphModule) -> Sequence[Any]:
    (node,) = graph.graph.find_nodes(op="output")
    (returned,) = node.args
    assert isinstance(returned, (list, tuple))
    return returned


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: _Step, *flat: Any) -> Any:
        ctx.step = step
        return step.forward(ctx, flat)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.step.backward(ctx, grads)
