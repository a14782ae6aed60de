"""One compiled function of a module: its groups, its SDFG and its kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from dovetail.compiler.build.compile import kernel_of
from dovetail.compiler.build.kernel import Kernel
from dovetail.compiler.groups.model import Program
from dovetail.compiler.passes.pipeline import Pipeline

__all__ = ["Unit"]


class Unit:
    """A forward or a backward function: each level is made from the one before when asked for."""

    def __init__(self, program: Program, pipeline: Pipeline) -> None:
        self.name, self.program, self.pipeline = program.name, program, pipeline
        self._identity: list[str] = []

    @cached_property
    def sdfg(self) -> Any:
        """The SDFG, after the passes over SDFGs and the user's transformations."""
        from dovetail.compiler.sdfg.emit import emit

        return self.pipeline.on_sdfg(emit(self.program))

    @cached_property
    def kernel(self) -> Kernel:
        """The compiled function, from the cache where it is there."""
        identity = "\n".join((*self.pipeline.identity, *self._identity))
        return kernel_of(self.program, lambda: self.sdfg, identity)

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        return self.kernel(inputs)

    def transform(self, change: Callable[[Any], Any]) -> None:
        """Apply ``change`` to the SDFG; what is compiled is what it leaves."""
        sdfg = self.sdfg
        made = change(sdfg)
        if made is not None and hasattr(made, "arglist"):
            self.__dict__["sdfg"] = made
        self._identity.append(self.sdfg.hash_sdfg())
        self.__dict__.pop("kernel", None)

    @property
    def code(self) -> str:
        """The generated C++."""
        from dovetail.compiler.build.source import generate

        return generate(self.sdfg).code
