"""A module as functional graphs: parameters and buffers lifted, updates of buffers as results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from dovetail.compiler.capture.cut import cut
from dovetail.compiler.capture.decompositions import decompositions
from dovetail.errors import DovetailError
from dovetail.formats.realise.whole import whole_casts

__all__ = ["Capture", "capture"]


@dataclass
class Capture:
    """The graphs of a module, and what their inputs and results are.

    ``forward`` takes the parameters, the buffers and the flat inputs; it returns the new values of
    the ``mutated`` inputs (numbers of inputs), the outputs, then what ``backward`` needs. That
    takes those and one gradient per output that ``differentiable`` marks, and returns one gradient
    per input of the forward graph.
    """

    forward: fx.GraphModule
    backward: fx.GraphModule | None
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    mutated: tuple[int, ...]
    results: int
    differentiable: tuple[bool, ...]
    inputs: int
    output_spec: Any
    symbols: dict[str, tuple[int, int]] = field(default_factory=dict)


def capture(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    backward: bool = False,
    dynamic: bool = False,
) -> Capture:
    """The functional graphs of ``module`` at the example ``args``.

    With ``backward`` the joint graph of outputs and gradients is cut where least is saved.
    ``dynamic`` leaves the first dimension of every tensor among ``args`` a symbol.
    """
    from torch._functorch.aot_autograd import aot_export_joint_with_descriptors

    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(backward))
        stack.enter_context(whole_casts())
        given = stack.enter_context(_fake_inputs(args)) if dynamic else tuple(args)
        with _named(), _kept_in_place(module):
            joint = aot_export_joint_with_descriptors(
                stack, module, given, dict(kwargs or {}), decompositions=decompositions()
            )
        info = joint._aot_state.fw_metadata
        _refuse(info)
        forward, after = joint.graph_module, None
        if backward:
            forward, after = cut(joint.graph_module, None, num_fwd_outputs=info.num_forward)
    flat = pytree.tree_leaves((tuple(args), dict(kwargs or {})))
    outputs = info.output_info
    return Capture(
        forward=forward,
        backward=after,
        parameters=tuple(joint.params_spec),
        buffers=tuple(joint.buffers_spec),
        mutated=tuple(info.mutated_inp_runtime_indices),
        results=len(outputs),
        differentiable=tuple(_takes_gradient(o) for o in outputs),
        inputs=len(flat),
        output_spec=joint.out_spec,
    )


@contextlib.contextmanager
def _kept_in_place(module: nn.Module) -> Iterator[None]:
    """Parameters and buffers stay what they are.

    Torch puts others in their places meanwhile, and of a part that is used under two names it puts
    the wrong ones back.
    """
    own: list[Any] = [d for p in module.modules() for d in (p._parameters, p._buffers)]
    held = [(places, dict(places)) for places in own]
    try:
        yield
    finally:
        for places, tensors in held:
            if any(places[name] is not tensor for name, tensor in tensors.items()):
                places.update(tensors)


def _takes_gradient(output: Any) -> bool:
    return bool(getattr(output, "requires_grad_for_backward", output.requires_grad))


def _refuse(info: Any) -> None:
    for number, given in enumerate(info.input_info):
        if given.mutates_metadata:
            raise DovetailError(f"input {number} is reshaped in place; copy it first")
    if info.num_intermediate_bases:
        raise DovetailError("outputs that are views of one another: return copies")


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """What depends on values is refused in dovetail's own words."""
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
    )

    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise DovetailError(
            f"{error.func} depends on the values of its input, which a compiled function may not"
        ) from error


@contextlib.contextmanager
def _fake_inputs(args: Sequence[Any]) -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import (
        DimDynamic,
        ShapeEnv,
        StatelessSymbolicContext,
    )

    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)

    def fake(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        sizes = [DimDynamic.DYNAMIC] + [DimDynamic.STATIC] * (value.dim() - 1)
        context: Any = StatelessSymbolicContext(sizes)
        return mode.from_tensor(value, symbolic_context=context)

    yield pytree.tree_map(fake, tuple(args))
