"""``dv.compile``, and the decorator of classes whose instances it compiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from torch import nn

from dovetail.compiler.module import CompiledModule
from dovetail.compiler.passes.pipeline import Pipeline, chosen
from dovetail.errors import unknown

__all__ = ["DEFAULTS", "compile", "module", "of_options"]

DEFAULTS: dict[str, Any] = {
    "optimize": "default",
    "backward": False,
    "target": None,
    "dynamic": False,
    "freeze": False,
    "fallback": False,
    "debug_transients": (),
    "check": True,
    "tolerance": None,
    "post_capture": None,
    "post_autodiff": None,
    "pre_codegen": None,
}


def compile(
    model: nn.Module,
    example: Any,
    *,
    target: str | None = None,
    optimize: str | Pipeline | Iterable[str] = "default",
    backward: bool | None = None,
    dynamic: bool = False,
    freeze: bool = False,
    fallback: bool = False,
    debug_transients: bool | Sequence[str] = (),
    check: bool | Literal["always"] = True,
    tolerance: float | None = None,
    post_capture: Callable[[Any], Any] | None = None,
    post_autodiff: Callable[[Any], Any] | None = None,
    pre_codegen: Callable[[Any], Any] | None = None,
) -> CompiledModule:
    """``model`` compiled for the shapes of ``example``: forward, and with gradients backward.

    ``example`` is a tensor, a tuple of positional arguments or a dict of keyword arguments.
    ``target`` is ``"cpu"`` or ``"cuda"``, by default where the model and the example are. Where
    there is no GPU a model compiled for ``"cuda"`` can be looked at, and not called.
    ``backward`` is whether gradients are wanted, by default whether the model is in training mode.
    ``dynamic`` leaves the first dimension of every input open. ``freeze`` makes constants of
    parameters and buffers, for inference: what can be computed of them is, batch norm is folded
    into the layer before it, weights are packed once. One that changes afterwards is noticed, and
    the module compiled anew at the next call. ``optimize`` is ``"default"``, ``"none"``, a list of
    names of passes, or a :class:`Pipeline`. The hooks are given what they name (an FX graph, the
    pair of FX graphs, an SDFG) and may change it. An operator that has no lowering is called as
    torch's own kernel; one that has none is refused by name, or with ``fallback`` called in eager
    mode, which the report lists. ``debug_transients`` names nodes of the graphs (True: all whose
    values are in memory) that :attr:`CompiledModule.transients` then holds after each call.

    Before it is returned, the compiled module's outputs, and with ``backward`` its gradients, are
    compared with the model's own on the example, and a difference beyond ``tolerance`` (relative
    to the largest element; 1e-4, and no difference at all where only integers are emulated) is
    refused. Models that draw random numbers are not compared. What an earlier process has compared
    is not compared again: the same code, libraries, parameters, buffers, example, versions and
    machine, as a note on disk tells. With ``check="always"`` it is.

    >>> import torch
    >>> model = nn.Linear(3, 2).eval()
    >>> fast = compile(model, torch.ones(4, 3))
    >>> with torch.no_grad():
    ...     torch.allclose(fast(torch.ones(4, 3)), model(torch.ones(4, 3)))
    True
    """
    options = {
        "target": target,
        "optimize": optimize,
        "dynamic": dynamic,
        "freeze": freeze,
        "fallback": fallback,
        "debug_transients": debug_transients,
        "check": check,
        "tolerance": tolerance,
        "post_capture": post_capture,
        "post_autodiff": post_autodiff,
        "pre_codegen": pre_codegen,
    }
    return of_options(
        model, example, backward=model.training if backward is None else backward, **options
    )


def of_options(model: nn.Module, example: Any, **options: Any) -> CompiledModule:
    """``model`` compiled with ``options`` by name; without an ``example`` when it is first called.

    >>> import torch
    >>> of_options(nn.Linear(3, 2).eval(), torch.ones(4, 3), optimize="none").passes
    ()
    """
    settings = {**DEFAULTS, **options}
    for name in settings:
        if name not in DEFAULTS:
            raise unknown("option", name, DEFAULTS)
    pipeline = chosen(settings["optimize"])
    for stage in ("post_capture", "post_autodiff", "pre_codegen"):
        if settings[stage] is not None:
            pipeline = pipeline.with_pass(stage, settings[stage], stage)
    return CompiledModule(model, example, **{**settings, "optimize": pipeline})


def module(cls: type[nn.Module] | None = None, *, backward: bool = False, **options: Any) -> Any:
    """Class decorator: instances are compiled when they are first called.

    ``options`` are those of :func:`compile`.

    >>> import torch
    >>> @module(backward=True)
    ... class Double(nn.Module):
    ...     def forward(self, x):
    ...         return x + x
    >>> x = torch.ones(3, requires_grad=True)
    >>> Double()(x).sum().backward()
    >>> x.grad
    tensor([2., 2., 2.])
    """

    def decorate(decorated: type[nn.Module]) -> Any:
        def build(*args: Any, **kwargs: Any) -> nn.Module:
            return of_options(decorated(*args, **kwargs), None, backward=backward, **options)

        build.__name__, build.__doc__ = decorated.__name__, decorated.__doc__
        build.__wrapped__ = decorated  # type: ignore[attr-defined]
        return build

    return decorate if cls is None else decorate(cls)
