"""What calls of a captured module need, and what looking inside it does: all of it plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

from dovetail.compiler.donated import donated
from dovetail.compiler.frozen import mark
from dovetail.compiler.groups.layout import Dim
from dovetail.compiler.groups.model import Program, Ref
from dovetail.compiler.passes.pipeline import Pipeline
from dovetail.compiler.place import Place, place_of, whole_attention
from dovetail.compiler.state import slot_of
from dovetail.errors import DovetailError, unknown

__all__ = ["Record"]


@dataclass
class Record:
    """A module captured for one mode and shape, as programs of groups.

    ``forward`` takes the parameters and buffers at ``inputs``, then the flat inputs of a call; it
    returns the new values of ``mutated`` inputs, ``results`` outputs, then what ``backward`` needs.
    That takes what ``sources`` name, and one gradient per output that ``differentiable`` marks.
    Parameters and buffers at ``frozen`` are constants.
    """

    place: Place
    inputs: tuple[str, ...]
    frozen: tuple[str, ...]
    mutated: int
    results: int
    differentiable: tuple[bool, ...]
    output_spec: Any
    forward: Program
    backward: Program | None
    #: Where each saved input of the backward function is: an input of the forward one, or a
    #: result, numbered after the outputs.
    sources: list[tuple[bool, int]]

    @property
    def saved(self) -> Dim:
        """Bytes that the forward function leaves for the backward one."""
        made = self.forward.outputs[self.mutated + self.results :]
        kept = [made[number] for given, number in self.sources if not given]
        names = {ref.buffer for ref in kept if isinstance(ref, Ref)}
        buffers = [self.forward.buffers[name] for name in sorted(names)]
        return sum(b.bytes for b in buffers if b.role == "output")

    @staticmethod
    def of(
        source: nn.Module,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        gradients: bool,
        pipeline: Pipeline,
        options: Mapping[str, Any],
    ) -> Record:
        """``source`` captured at an example, after the passes over graphs and over groups."""
        from dovetail.compiler.capture import capture

        def lowered(graph: fx.GraphModule, name: str) -> Program:
            return _lowered(source, args, kwargs, graph, name, options)

        place = place_of(_named(source, args, kwargs), options["target"])
        pipeline = pipeline.on(place.target)
        with whole_attention(place.target):
            found = capture(source, args, kwargs, backward=gradients, dynamic=options["dynamic"])
        tensors = (*found.parameters, *found.buffers)
        if options["freeze"]:
            mark(found.forward, [slot_of(source, path) for path in tensors], found.mutated)
        names = [n.name for n in found.forward.graph.find_nodes(op="placeholder")]
        forward, backward = pipeline.on_graph(found.forward), found.backward
        left = [n.name for n in forward.graph.find_nodes(op="placeholder")]
        there = [name in left for name in names[: len(tensors)]]
        if backward is not None:
            forward, backward = pipeline.run("post_autodiff", (forward, backward))
        program = lowered(forward, "forward")
        program.updates = {i: left.index(names[n]) for i, n in enumerate(found.mutated)}
        after = None if backward is None else lowered(backward, "backward")
        for made in (program, after):
            if made is not None:
                made.target = place.target
        _check_names(options["debug_transients"], forward, backward)
        saved = len(found.mutated) + found.results
        sources = [] if backward is None else _sources(forward, backward, saved)
        program = pipeline.on_program(program)
        if after is not None:
            after = pipeline.on_program(after)
            after.donated = donated(program, after, sources, saved)
        return Record(
            place=place,
            inputs=tuple(p for p, is_there in zip(tensors, there, strict=True) if is_there),
            frozen=tuple(p for p, is_there in zip(tensors, there, strict=True) if not is_there),
            mutated=len(found.mutated),
            results=found.results,
            differentiable=found.differentiable,
            output_spec=found.output_spec,
            forward=program,
            backward=after,
            sources=sources,
        )


def _named(
    source: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Every tensor that is computed with, as an error calls it."""
    for name, value in (*source.named_parameters(), *source.named_buffers()):
        yield f"'{name}'", value
    for number, leaf in enumerate(pytree.tree_leaves((tuple(args), dict(kwargs)))):
        yield f"input {number} of the example", leaf


def _lowered(
    source: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    graph: fx.GraphModule,
    name: str,
    options: Mapping[str, Any],
) -> Program:
    """The groups of a graph; what cannot be is named with its layer."""
    from dovetail.compiler.layers import layers_of
    from dovetail.compiler.ops.graph import NoLoweringError, program_of

    try:
        return program_of(
            graph, name, fallback=options["fallback"], watch=options["debug_transients"]
        )
    except NoLoweringError as error:
        layers = layers_of(source, args, kwargs, error.key)
        where = f"in layer {', '.join(layers)}" if layers else f"in the {name} function"
        raise DovetailError(f"{where}: {error}") from error


def _check_names(wanted: bool | Sequence[str], *graphs: fx.GraphModule | None) -> None:
    known = [n.name for g in graphs if g for n in g.graph.nodes if n.op == "call_function"]
    for name in () if isinstance(wanted, bool) else wanted:
        if name not in known:
            raise unknown("intermediate value", name, known)


def _sources(
    forward: fx.GraphModule, backward: fx.GraphModule, skip: int
) -> list[tuple[bool, int]]:
    given = {n.name: i for i, n in enumerate(forward.graph.find_nodes(op="placeholder"))}
    made = {n.name: i for i, n in enumerate(_returned(forward)[skip:]) if isinstance(n, fx.Node)}
    sources: list[tuple[bool, int]] = []
    for node in backward.graph.find_nodes(op="placeholder"):
        if node.name in made and node.name not in given:
            sources.append((False, made[node.name]))
        elif node.name in given:
            sources.append((True, given[node.name]))
    return sources


def _returned(graph: fx.GraphModule) -> Sequence[Any]:
    (node,) = graph.graph.find_nodes(op="output")
    (returned,) = node.args
    assert isinstance(returned, (list, tuple))
    return returned
