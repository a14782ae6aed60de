"""The module that ``dv.compile`` returns: its forward and backward run as compiled SDFGs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dovetail.compiler.captures import shelf_of
from dovetail.compiler.comparison import Comparison
from dovetail.compiler.in_programs import InPrograms
from dovetail.compiler.passes.pipeline import Pipeline, chosen
from dovetail.compiler.record import Record
from dovetail.compiler.unit import Unit
from dovetail.compiler.variant import StaleError, Variant
from dovetail.emulation.example import arguments_of
from dovetail.errors import DovetailError

__all__ = ["CompiledModule"]


class CompiledModule(InPrograms, nn.Module):
    """A module that computes what ``source`` does, by compiled code.

    It shares the parameters, buffers and submodules of ``source``: their names, ``state_dict``
    keys and values are the same, and training one trains the other. Each mode (training or not,
    gradients or not) and each shape of inputs is compiled when it is first met.
    """

    _source: nn.Module

    def __init__(self, source: nn.Module, example: Any, **options: Any) -> None:
        super().__init__()
        self.__dict__["_source"] = source  # no submodule: its parts are this module's own
        for shared in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[shared] = source.__dict__[shared]
        self.training = source.training
        self._options = options
        self._pipeline: Pipeline = chosen(options["optimize"])
        self._backward: bool = options["backward"]
        self._comparison = Comparison(source, options["check"], options["tolerance"])
        self._variants: dict[Any, Variant] = {}
        self._latest: Variant | None = None  # made last
        self._recent: Variant | None = None  # called last
        if example is not None:
            self._variant(*arguments_of(example), self._backward)

    @property
    def _current(self) -> Variant:
        """The function that was compiled last."""
        if self._latest is None:
            raise DovetailError("nothing is compiled yet: call the module once")
        return self._latest

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the source module computes."""
        gradients = self._backward and torch.is_grad_enabled()
        recent = self._recent
        if recent is not None and not kwargs and recent.gradients == gradients:
            flat = recent.ready(args)
            if flat is not None:
                return recent.run(flat)
        found = self._follow(self._variant(args, kwargs, gradients))
        try:
            return found.call(args, kwargs)
        except StaleError:
            found = self._follow(self._variant(args, kwargs, gradients, anew=True))
            return found.call(args, kwargs)

    def _follow(self, found: Variant) -> Variant:
        """Of many shapes only the one that is called keeps memory for its next call."""
        if self._recent is not None and self._recent is not found:
            self._recent.release()
        self._recent = found
        return found

    def train(self, mode: bool = True) -> CompiledModule:
        """The source's training flag, and that of all its parts."""
        self._source.train(mode)
        self.training = mode
        return self

    def _variant(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], gradients: bool, anew: bool = False
    ) -> Variant:
        signature = _signature(args, kwargs, self._options["dynamic"], gradients)
        key = (self._source.training, gradients, *signature)
        found = self._variants.get(key)
        if found is None or anew or found.outdated:
            found = self._variants[key] = self._made(args, kwargs, gradients)
            self._latest = found
        return found

    def _made(self, args: Sequence[Any], kwargs: Mapping[str, Any], gradients: bool) -> Variant:
        if self._options["freeze"] and (self.training or self._backward):
            raise DovetailError(
                "freeze=True makes constants of parameters, for inference: call eval() on the "
                "model, and leave backward out"
            )
        wanted = (self._source, args, kwargs, gradients, self._pipeline, self._options)
        shelf = shelf_of(*wanted)
        rest = (self._pipeline, (args, kwargs), gradients, shelf)
        kept = shelf.found()
        if kept is not None:
            found = Variant(self._source, kept, *rest)
            try:
                self._comparison.again(found)
            except DovetailError:
                shelf.forget()  # whatever it was made of, it is not this model
            else:
                return found
        made = Variant(self._source, Record.of(*wanted), *rest)
        shelf.keep(made.record, self._comparison.now(made, gradients=gradients))
        self._comparison.note(made)
        return made

    # -- looking inside -------------------------------------------------------------------------

    @property
    def units(self) -> list[Unit]:
        """The compiled functions: forward, and backward if there is one."""
        return self._current.units

    @property
    def groups(self) -> list[Any]:
        """The groups of the forward function; ``str(groups)`` of each program shows all."""
        return self._current.forward.program.groups

    @property
    def program(self) -> Any:
        """The forward function as groups: ``print`` shows them."""
        return self._current.forward.program

    @property
    def program_backward(self) -> Any:
        """The backward function as groups, or None."""
        return None if self._current.backward is None else self._current.backward.program

    @property
    def sdfg(self) -> Any:
        """The forward function as an SDFG."""
        return self._current.forward.sdfg

    @property
    def sdfg_backward(self) -> Any:
        """The backward function as an SDFG, or None."""
        return None if self._current.backward is None else self._current.backward.sdfg

    @property
    def passes(self) -> tuple[str, ...]:
        """The names of the passes, in order."""
        return self._pipeline.names

    @property
    def transients(self) -> dict[str, dict[str, Tensor]]:
        """The values that ``debug_transients`` names, of the last call, by function and name."""
        return {unit.name: unit.transients for unit in self.units}

    def transform(self, change: Callable[[Any], Any], *, backward: bool = False) -> CompiledModule:
        """Apply ``change`` to the SDFG of the forward (or backward) function, and check again.

        ``change(sdfg)`` alters it in place or returns another. A result that then differs from
        eager is refused.
        """
        unit = self._current.backward if backward else self._current.forward
        if unit is None:
            raise DovetailError("nothing was compiled backward: compile(..., backward=True)")
        unit.transform(change)
        self._comparison.now(self._current, self._current.gradients)
        return self

    def report(self, *, timing: bool = False) -> Any:
        """What runs: nodes with bytes moved and FLOPs, at three levels; seconds of each pass.

        With ``timing`` also the seconds of each map, from a build that looks at the clock between
        them, run on copies of the example that was compiled last.
        """
        from dovetail.compiler.report import Report

        return Report.of(self._current, self._pipeline, timing)


def _signature(
    args: Sequence[Any], kwargs: Mapping[str, Any], dynamic: bool, gradients: bool
) -> tuple[Any, ...]:
    """What a compiled function depends on in its arguments."""
    if len(args) == 1 and not kwargs and not dynamic and isinstance(args[0], Tensor):
        (x,) = args
        return x.dtype, x.shape, x.stride(), x.device, gradients and x.requires_grad
    leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
    return (str(spec), *(_described(leaf, dynamic, gradients) for leaf in leaves))


def _described(leaf: Any, dynamic: bool, gradients: bool) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    first = 1 if dynamic and leaf.dim() else 0
    requires = gradients and leaf.requires_grad
    return leaf.dtype, leaf.shape[first:], leaf.stride()[first:], leaf.device, requires
