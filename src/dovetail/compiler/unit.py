"""One compiled function of a module: its groups, its SDFG and its kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from dovetail.compiler import fallback
from dovetail.compiler.build.cache import Entry
from dovetail.compiler.build.compile import library_key, library_of, source_of
from dovetail.compiler.build.gpu import gpu
from dovetail.compiler.build.kernel import Kernel
from dovetail.compiler.build.source import Source
from dovetail.compiler.engine import contained
from dovetail.compiler.groups.model import Program
from dovetail.compiler.passes.pipeline import Pipeline
from dovetail.compiler.place import HOST, Place
from dovetail.errors import DovetailError

__all__ = ["Unit"]


class Unit:
    """A forward or a backward function: each level is made from the one before when asked for."""

    def __init__(self, program: Program, pipeline: Pipeline, place: Place = HOST) -> None:
        self.name, self.program, self.pipeline = program.name, program, pipeline
        self.place = place
        self._identity: list[str] = []
        #: Intermediate values of the last call, by name.
        self.transients: dict[str, Tensor] = {}

    @property
    def fallbacks(self) -> list[tuple[str, str]]:
        """What is called in eager mode: the node's name, and the operator's."""
        return list(fallback.fallbacks(self.program))

    @cached_property
    def sdfg(self) -> Any:
        """The SDFG, after the passes over SDFGs and the user's transformations."""
        from dovetail.compiler.sdfg.emit import emit

        return self.pipeline.on_sdfg(emit(self.program))

    @property
    def library(self) -> Entry:
        """The compiled library, from the cache where it is there: it needs no GPU."""
        return library_of(self.program, lambda: self.source, self.identity)

    @property
    def key(self) -> str:
        """What the compiled library is found by in the cache."""
        return library_key(self.program, self.identity)

    @cached_property
    def kernel(self) -> Kernel:
        """The compiled function in this process."""
        if self.place.target == "cuda" and (why := gpu().missing()) is not None:
            raise DovetailError(
                f"compiled for CUDA, but {why}: its .sdfg, .report() and .units[0].source can be "
                "read, and .units[0].library compiles it; target='cpu' runs here"
            )
        return Kernel(self.program, self.library, self.place.device)

    @property
    def identity(self) -> str:
        """What tells SDFGs apart that are made of the same program."""
        return "\n".join((*self.pipeline.identity, *self._identity))

    @cached_property
    def plain(self) -> bool:
        """Whether the results are those of the kernel, as they are."""
        return self.kernel.plain and not self.program.transients

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        results = self.kernel(inputs)
        wanted = self.program.transients
        if wanted:
            self.transients = {name: results[number] for name, number in wanted.items()}
            del results[min(wanted.values()) :]  # they are the last
        return results

    def release(self) -> None:
        """Give back the memory of results that is kept for the next call."""
        if "kernel" in self.__dict__:
            self.kernel.release()

    def transform(self, change: Callable[[Any], Any]) -> None:
        """Apply ``change`` to the SDFG; what is compiled is what it leaves."""
        sdfg = self.sdfg
        with contained(sdfg):
            made = change(sdfg)
        if made is not None and hasattr(made, "arglist"):
            self.__dict__["sdfg"] = made
        self._identity.append(self.sdfg.hash_sdfg())
        for made in ("kernel", "plain", "source"):
            self.__dict__.pop(made, None)

    @property
    def arena(self) -> int:
        """Bytes of memory for what is computed on the way."""
        return self.kernel.arena if "kernel" in self.__dict__ else self.source.arena.size

    @cached_property
    def source(self) -> Source:
        """What is generated: ``code`` in C++, and for a GPU ``kernels`` in CUDA."""
        return source_of(self.program, self.sdfg)

    @property
    def code(self) -> str:
        """The generated C++; for a GPU with the CUDA behind it."""
        source = self.source
        return source.code + source.kernels
