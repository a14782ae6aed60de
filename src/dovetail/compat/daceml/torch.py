"""``from daceml.torch import dace_module, DaceModule``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from dovetail.compiler.in_programs import InPrograms
from dovetail.compiler.module import CompiledModule
from dovetail.compiler.passes.pipeline import chosen
from dovetail.errors import DovetailError

__all__ = ["DaceModule", "dace_module"]

#: Of their import by way of ONNX: it has no part here.
_IDLE = ("onnx_simplify", "inputs_to_skip", "compile_torch_extension", "sdfg_name", "simplify")


class DaceModule(InPrograms, nn.Module):
    """``module``, compiled when it is first called, or at once for ``dummy_inputs``.

    ``backward`` compiles gradients too, ``training`` puts it in training mode,
    ``auto_optimize=False`` leaves the passes out. Hooks are called by the names that
    they have there: after the import with this module, whose ``sdfg`` they may change; after
    autodiff with the SDFGs forward and backward; after compilation with the compiled module.

    >>> DaceModule(nn.Linear(3, 2), backward=True)
    DaceModule(
      (model): Linear(in_features=3, out_features=2, bias=True)
    )
    """

    def __init__(
        self,
        module: nn.Module,
        dummy_inputs: Sequence[Tensor] | None = None,
        training: bool = False,
        backward: bool = False,
        auto_optimize: bool = True,
        debug_transients: bool = False,
        **idle: Any,
    ) -> None:
        super().__init__()
        strange = set(idle) - set(_IDLE)
        if strange or debug_transients:
            name = min(strange) if strange else "debug_transients"
            raise DovetailError(
                f"DaceModule has no '{name}' here: dv.compile(...).program shows every value, and "
                "code is for the CPU"
            )
        self.model = module.train(training)
        self.__dict__["_source"] = module
        self._options = {
            "optimize": chosen("default" if auto_optimize else "none"),
            "backward": backward,
        }
        self._hooks: dict[str, dict[str, Callable[..., Any]]] = {
            "post_onnx": {},
            "post_autodiff": {},
            "post_compile": {},
        }
        self._compiled: CompiledModule | None = None
        if dummy_inputs is not None:
            self._compile(tuple(dummy_inputs))

    def forward(self, *args: Any) -> Any:
        """What the module computes."""
        if self._compiled is None:
            self._compile(args)
        assert self._compiled is not None
        return self._compiled(*args)

    def _compile(self, args: Sequence[Any]) -> None:
        from dovetail.compiler.entry import of_options

        self._compiled = compiled = of_options(self.model, tuple(args), **self._options)
        for hook in self._hooks["post_onnx"].values():
            hook(self)
        backward = compiled.sdfg_backward
        if backward is not None:
            for hook in self._hooks["post_autodiff"].values():
                hook(compiled.sdfg, backward)
        if any(self._hooks.values()):  # SDFGs were changed in place: compile what they are now
            if backward is not None:
                compiled.transform(_unchanged, backward=True)
            compiled.transform(_unchanged)
        for hook in self._hooks["post_compile"].values():
            hook(compiled)

    @property
    def sdfg(self) -> Any:
        """The forward function's SDFG, once there is one."""
        if self._compiled is None:
            raise DovetailError("nothing is compiled yet: call the module once")
        return self._compiled.sdfg

    @property
    def backward_sdfg(self) -> Any:
        """The backward function's SDFG, or None."""
        return None if self._compiled is None else self._compiled.sdfg_backward

    def reset_sdfg(self) -> None:
        """Compile anew at the next call."""
        self._compiled = None

    def _hook(self, stage: str, name: str, hook: Callable[..., Any], first: bool) -> None:
        hooks = self._hooks[stage]
        if name in hooks:
            raise DovetailError(f"there is a {stage} hook named '{name}' already")
        self._hooks[stage] = {name: hook, **hooks} if first else {**hooks, name: hook}
        self.reset_sdfg()

    def prepend_post_onnx_hook(self, name: str, func: Callable[[DaceModule], Any]) -> None:
        """Called first after the import."""
        self._hook("post_onnx", name, func, True)

    def append_post_onnx_hook(self, name: str, func: Callable[[DaceModule], Any]) -> None:
        """Called last after the import."""
        self._hook("post_onnx", name, func, False)

    def prepend_post_autodiff_hook(self, name: str, func: Callable[[Any, Any], Any]) -> None:
        """Called first after autodiff."""
        self._hook("post_autodiff", name, func, True)

    def append_post_autodiff_hook(self, name: str, func: Callable[[Any, Any], Any]) -> None:
        """Called last after autodiff."""
        self._hook("post_autodiff", name, func, False)

    def prepend_post_compile_hook(self, name: str, func: Callable[[Any], Any]) -> None:
        """Called first after compilation."""
        self._hook("post_compile", name, func, True)

    def append_post_compile_hook(self, name: str, func: Callable[[Any], Any]) -> None:
        """Called last after compilation."""
        self._hook("post_compile", name, func, False)


def _unchanged(_: Any) -> None:
    """What was changed before is compiled again."""


def dace_module(moduleclass: type[nn.Module] | None = None, **options: Any) -> Any:
    """Class decorator: instances are a `DaceModule` of what the class makes.

    >>> @dace_module(backward=True)
    ... class Twice(nn.Module):
    ...     def forward(self, x):
    ...         return 2 * x
    >>> Twice()
    DaceModule(
      (model): Twice()
    )
    """

    def decorate(decorated: type[nn.Module]) -> Callable[..., DaceModule]:
        def build(*args: Any, **kwargs: Any) -> DaceModule:
            return DaceModule(decorated(*args, **kwargs), **options)

        build.__name__, build.__doc__ = decorated.__name__, decorated.__doc__
        build.__wrapped__ = decorated  # type: ignore[attr-defined]
        return build

    return decorate if moduleclass is None else decorate(moduleclass)
