"""The steps between capture and code: named, listed, dropped and added by the user."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from dovetail.compiler.groups.model import Program
from dovetail.compiler.identity import identity_of
from dovetail.compiler.nodes.base import TARGETS
from dovetail.errors import DovetailError, unknown

__all__ = ["STAGES", "Pass", "Pipeline", "default_passes"]

#: What a pass is given and gives back: an FX graph, a program of groups, or an SDFG.
STAGES = ("post_capture", "post_autodiff", "groups", "sdfg", "pre_codegen")


@dataclass(frozen=True)
class Pass:
    """A step with a name; ``run`` may change what it is given, or return another."""

    name: str
    stage: str
    run: Callable[[Any], Any]
    #: Where it may run: what it makes holds on the CPU, unless it says more.
    targets: tuple[str, ...] = ("cpu",)


@dataclass
class Pipeline:
    """The passes in order, and the seconds that each took."""

    passes: list[Pass] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The passes by name, in order."""
        return tuple(p.name for p in self.passes)

    @property
    def identity(self) -> list[str]:
        """What tells the libraries of two pipelines apart."""
        return [f"{p.stage}:{p.name}:{identity_of(p.run)}" for p in self.passes]

    def on(self, target: str) -> Pipeline:
        """The passes that may run on ``target``; their seconds are counted together."""
        return Pipeline([p for p in self.passes if target in p.targets], self.seconds)

    def without(self, *names: str) -> Pipeline:
        """The same, but for the passes ``names``."""
        for name in names:
            if name not in self.names:
                raise unknown("pass", name, self.names)
        return Pipeline([p for p in self.passes if p.name not in names])

    def with_pass(
        self, name: str, run: Callable[[Any], Any], stage: str = "sdfg", before: str | None = None
    ) -> Pipeline:
        """The same with another pass, last or before the one named."""
        if stage not in STAGES:
            raise unknown("stage", stage, STAGES)
        if before is not None and before not in self.names:
            raise unknown("pass", before, self.names)
        place = len(self.passes) if before is None else self.names.index(before)
        made = [*self.passes[:place], Pass(name, stage, run, TARGETS), *self.passes[place:]]
        return Pipeline(made)

    def run(self, stage: str, subject: Any) -> Any:
        """``subject`` after every pass of ``stage``."""
        for one in self.passes:
            if one.stage == stage:
                start = time.perf_counter()
                made = one.run(subject)
                subject = subject if made is None else made
                spent = time.perf_counter() - start
                self.seconds[one.name] = self.seconds.get(one.name, 0.0) + spent
        return subject

    def on_graph(self, graph: fx.GraphModule) -> fx.GraphModule:
        """After the passes over captured graphs."""
        return self.run("post_capture", graph)  # type: ignore[no-any-return]

    def on_program(self, program: Program) -> Program:
        """After the passes over groups."""
        return self.run("groups", program)  # type: ignore[no-any-return]

    def on_sdfg(self, sdfg: Any) -> Any:
        """After the passes over SDFGs."""
        return self.run("pre_codegen", self.run("sdfg", sdfg))


def default_passes() -> Pipeline:
    """What ``optimize="default"`` means."""
    from dovetail.compiler.passes import (
        batch_norm,
        channels_last,
        constants,
        dead,
        epilogues,
        in_place,
        packed,
        padding,
    )

    on_any_graph = (
        constants.freeze_parameters,
        constants.fold_constants,
        padding.fold_padding,
        batch_norm.fold_batch_norm,
    )
    on_host_graph = (
        channels_last.channels_last,
        epilogues.fuse_epilogues,
        packed.pack_weights,
    )
    return Pipeline(
        [
            *(Pass(run.__name__, "post_capture", run, TARGETS) for run in on_any_graph),
            *(Pass(run.__name__, "post_capture", run) for run in on_host_graph),
            Pass("update_in_place", "groups", in_place.update_in_place),
            Pass("drop_unused", "groups", dead.drop_unused, TARGETS),
        ]
    )


def chosen(optimize: str | Pipeline | Iterable[str]) -> Pipeline:
    """The pipeline that ``optimize`` names: ``"default"``, ``"none"``, names, or one's own."""
    if isinstance(optimize, Pipeline):
        return Pipeline(list(optimize.passes))
    every = default_passes()
    if optimize == "default":
        return every
    if optimize == "none":
        return Pipeline()
    if isinstance(optimize, str):
        raise DovetailError(f"optimize is 'default', 'none' or a list of passes, not '{optimize}'")
    wanted = list(optimize)
    for name in wanted:
        if name not in every.names:
            raise unknown("pass", name, every.names)
    return every.without(*(n for n in every.names if n not in wanted))
