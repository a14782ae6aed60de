"""``torch.compile(model, backend="dovetail")``: Dynamo's graphs, compiled forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from dovetail.compiler.capture import cut, decompositions
from dovetail.compiler.check import TOLERANCE, compare, is_random
from dovetail.compiler.ops.graph import program_of
from dovetail.compiler.passes.pipeline import Pipeline, chosen
from dovetail.compiler.place import place_of
from dovetail.compiler.rounding import MOVES, graph_in_float64, moved
from dovetail.compiler.unit import Unit
from dovetail.errors import unknown
from dovetail.formats.realise.whole import whole_casts

__all__ = ["dovetail"]

_OPTIONS = ("optimize", "check", "tolerance", "fallback")


def dovetail(
    graph: fx.GraphModule,
    example_inputs: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    **_: Any,
) -> Callable[..., Any]:
    """The backend. ``options``: ``optimize``, ``check``, ``tolerance`` and ``fallback``, as of
    ``dv.compile``.

    The first call of each function compares its results with those of its graph, run eagerly.
    """
    from torch._dynamo.backends.common import aot_autograd

    given = dict(options or {})
    for name in given:
        if name not in _OPTIONS:
            raise unknown("option", name, _OPTIONS)
    pipeline = chosen(given.get("optimize", "default"))

    def compiler(name: str) -> Callable[..., Any]:
        return lambda made, inputs: _boxed(_Function(name, made, inputs, pipeline, given))

    with whole_casts():
        backend = aot_autograd(
            fw_compiler=compiler("forward"),
            bw_compiler=compiler("backward"),
            inference_compiler=compiler("forward"),
            decompositions=decompositions(),
            partition_fn=cut,
        )
        compiled: Callable[..., Any] = backend(graph, example_inputs)
    return compiled


def _boxed(function: _Function) -> Callable[..., Any]:
    """``function`` with the mark that it empties its list, where wrappers keep it."""

    def run(inputs: list[Any]) -> list[Any]:
        return function(inputs)

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


class _Function:
    """A compiled graph as AOTAutograd calls it: with a list, which it empties."""

    def __init__(
        self,
        name: str,
        graph: fx.GraphModule,
        inputs: Sequence[Any],
        pipeline: Pipeline,
        options: Mapping[str, Any],
    ) -> None:
        named = ((f"input {number} of the graph", value) for number, value in enumerate(inputs))
        place = place_of(named, None)
        safe = pipeline.without(*_UNSAFE & set(pipeline.names)).on(place.target)
        self.name, self.graph = name, graph
        program = program_of(graph, name, fallback=options.get("fallback", False))
        program.target = place.target
        program = safe.on_program(program)
        self.tolerance = options.get("tolerance")
        self.unchecked = options.get("check", True) and not is_random(program)
        self.kernel = Unit(program, safe, place).kernel

    def __call__(self, inputs: list[Any]) -> list[Any]:
        with torch.no_grad():
            outputs = self.kernel(inputs)
            if self.unchecked:
                self._check(inputs, outputs)
        inputs.clear()
        return outputs

    def _check(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        limit = TOLERANCE if self.tolerance is None else self.tolerance
        expected = self.graph(*inputs)
        scale = max((float(v.abs().max()) for v in expected if _counts(v)), default=0.0)
        pairs = [(m, o) for m, o in zip(outputs, expected, strict=True) if isinstance(o, Tensor)]
        mine, theirs = [m for m, _ in pairs], [o for _, o in pairs]
        what = f"{self.name} result"
        compare(what, mine, theirs, 10 * limit, limit * scale, lambda: self._finer(inputs))
        self.unchecked = False

    def _finer(self, inputs: Sequence[Any]) -> list[list[Any]]:
        """The results that are tensors, in float64 and moved; none of emulated layers."""
        if any(str(node.target).startswith("dovetail.") for node in self.graph.graph.nodes):
            return [[]]
        wide = graph_in_float64(self.graph, inputs)
        if wide is None:
            return [[]]
        runs = [wide, *(self.graph(*moved(list(inputs), seed)) for seed in range(MOVES))]
        return [[result for result in run if isinstance(result, Tensor)] for run in runs]


#: AOTAutograd itself copies new values into buffers.
_UNSAFE = {"update_in_place"}


def _counts(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() > 0 and value.is_floating_point()
