"""A ``GraphProto`` to a module: constants are folded, weights and nodes find their places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.compiler.onnx.attributes import graphs_of, tensor_of
from dovetail.compiler.onnx.calls import Call, call_of, dense
from dovetail.compiler.onnx.graph import OnnxGraph, Step
from dovetail.compiler.onnx.layers import LAYERS, Layer
from dovetail.compiler.onnx.names import Names, Path, container, nameless, path_of, place, scope_of
from dovetail.compiler.onnx.node import Node
from dovetail.compiler.onnx.sizes import SIZES, as_tensor, is_size, known
from dovetail.compiler.onnx.types import FLOATS

__all__ = ["Settings", "build"]

_CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
#: Computed constants of more elements are left to the forward.
_FOLDED = 1 << 22


@dataclass(frozen=True)
class Settings:
    """What holds for a whole model."""

    opsets: Mapping[str, int]
    trains: Callable[[str], bool]
    ranks: Mapping[str, int]
    #: Element types of less than a byte, which torch's types do not tell.
    types: Mapping[str, int]


def build(graph: Any, settings: Settings, captured: Sequence[str] = ()) -> OnnxGraph:
    """The module of a graph whose ``captured`` values are given by the graph around it."""
    return _Builder(graph, settings, captured).module()


class _Builder:
    def __init__(self, graph: Any, settings: Settings, captured: Sequence[str]) -> None:
        self.settings = settings
        self.captured = tuple(captured)
        held = {proto.name: tensor_of(proto) for proto in graph.initializer}
        held |= {proto.values.name: dense(proto) for proto in graph.sparse_initializer}
        self.inputs = [i.name for i in graph.input if i.name not in held]
        self.outputs = [o.name for o in graph.output]
        self.calls = [call_of(node, at, settings.opsets) for at, node in enumerate(graph.node)]
        self.uses: dict[str, list[tuple[Call, int]]] = defaultdict(list)
        for call in self.calls:
            for slot, name in enumerate(call.inputs):
                self.uses[name].append((call, slot))
        self.weights = {n: t for n, t in held.items() if self._is_weight(n, t)}
        #: Every other tensor that is known now; named initialisers are part of the state.
        self.constants = {n: t for n, t in held.items() if n not in self.weights}
        self.persistent = {name for name in self.constants if not nameless(name)}
        self.names = Names()
        self.modules: dict[Path, nn.Module] = {}
        self.parameters: dict[tuple[str, bool], nn.Parameter] = {}
        self.steps: list[Step] = []
        #: Where weights go whose own name says nothing.
        self.paths: dict[str, Path] = {}

    def _is_weight(self, name: str, tensor: Tensor) -> bool:
        """A float that is trained: where an operator has weights, or named and not one number."""
        uses = self.uses[name]
        if tensor.dtype not in FLOATS or not uses or not self.settings.trains(name):
            return False
        if any(slot in call.operator.fixed for call, slot in uses):
            return False
        meant = any(slot in call.operator.weights for call, slot in uses)
        return meant or (tensor.numel() > 1 and not nameless(name))

    def module(self) -> OnnxGraph:
        """The graph's module."""
        module = OnnxGraph(self.inputs, self.outputs, self.captured)
        skipped: set[int] = set()
        for call in self.calls:
            if id(call) in skipped or self._folded(call):
                continue
            layer, added = self._layer(call)
            if layer is None:
                self._node(call)
            elif added is not None:
                skipped.add(id(added))
        place(module, self.modules)
        self._hold(module)
        module.steps = _with_ends(self.steps, {*self.outputs, *module.tensors, *module.numbers})
        return module

    # Constants

    def _folded(self, call: Call) -> bool:
        """Compute a node of constants now."""
        names = [name for name in call.inputs if name]
        if call.operator.name in _CONTROL or not call.operator.folds:
            return False
        if any(name not in self.constants for name in names):
            return False
        node = Node(
            call.operator, call.attributes, name=call.name, opset=call.opset,
            outputs=len(call.outputs), types=self._types(call),
        )  # fmt: skip
        given = [self._given(name, call) if name else None for name in call.inputs]
        with torch.no_grad():
            result = node(*given)
        results = result if len(call.outputs) > 1 else (result,)
        tensors = [as_tensor(value) if is_size(value) else value for value in results]
        if any(not isinstance(t, Tensor) or t.numel() > _FOLDED for t in tensors):
            return False
        self.constants |= dict(zip(call.outputs, tensors, strict=True))
        return True

    def _given(self, name: str, call: Call) -> Any:
        """A constant as this node takes it."""
        number = known(self.constants[name]) if call.operator.name in SIZES else None
        return self.constants[name] if number is None else number

    # Modules

    def _types(self, call: Call) -> dict[int, int]:
        types = self.settings.types
        return {slot: types[name] for slot, name in enumerate(call.inputs) if name in types}

    def _take(self, call: Call, bias: str = "", layer: bool = False) -> Path:
        """Where the node's module goes: where its weights say, or else its own name.

        A layer is named as the scope that it is in, without the operator.
        """
        slots = [s for s in call.operator.weights if s < len(call.inputs)]
        for name in [*(call.inputs[slot] for slot in slots), bias]:
            path = path_of(name)
            says = name in self.weights and path[-1:] in (("weight",), ("bias",))
            if says and self.names.free(path[:-1]):
                return self.names.take(path[:-1])
        scope, path = scope_of(call.proto), path_of(call.name)
        if scope:
            path = (*scope, *path)
        if layer and (scope or path[-1] == call.proto.op_type) and self.names.free(path[:-1]):
            path = path[:-1]
        return self.names.take(path)

    def _node(self, call: Call) -> None:
        wanted = {n: self.constants[n] for n in call.inputs if n in self.constants}
        static = {
            slot: wanted[name].tolist()
            for slot, name in enumerate(call.inputs)
            if name in wanted and slot in call.operator.static
        }
        # What is fixed in the node need not be passed, unless shapes are computed with it.
        sized = call.operator.name in SIZES
        inputs = [
            "" if slot in static and (not sized or known(wanted[name]) is None) else name
            for slot, name in enumerate(call.inputs)
        ]
        bodies = {
            attribute: build(graph, self.settings, call.captured)
            for attribute, graph in graphs_of(call.proto).items()
        }
        node = Node(
            call.operator, call.attributes, name=call.name, opset=call.opset,
            outputs=len(call.outputs), static=static, types=self._types(call), bodies=bodies,
        )  # fmt: skip
        path = self._take(call)
        self._add(path, node, inputs, call.outputs)
        for slot, name in enumerate(inputs):
            if nameless(name) and name in self.weights and len(self.uses[name]) == 1:
                self.paths[name] = (*path, call.operator.input_name(slot))

    def _add(
        self, path: Path, module: nn.Module, inputs: Iterable[str], outputs: Iterable[str]
    ) -> None:
        self.modules[path] = module
        self.steps.append(Step(path, tuple(inputs), tuple(outputs)))

    def _layer(self, call: Call) -> tuple[Layer | None, Call | None]:
        """The node as a layer of torch, and the addition of a bias that it took with it."""
        make = LAYERS.get(call.operator.name) if call.operator.domain == "" else None
        if make is None or len(call.outputs) != 1:
            return None, None
        names, outputs, added = list(call.inputs), call.outputs, None
        if call.operator.name == "MatMul" and (sum_ := self._biased(call)) is not None:
            added, bias = sum_
            names, outputs = [*names, bias], added.outputs
        tensors = [self.weights.get(n, self.constants.get(n)) for n in names]
        layer = make(tensors, call.attributes, self.settings.ranks.get(call.inputs[0]))
        if layer is None or not self._alone(layer, names):
            return None, None
        path = self._take(call, names[-1], layer=True)
        for key, slot in layer.tensors.items():
            if key.startswith("running"):
                setattr(layer.module, key, self._statistic(names[slot]))
            else:
                turned = layer.turned and key == "weight"
                setattr(layer.module, key, self._parameter(names[slot], turned))
            self.names.take((*path, key))
        self._add(path, layer.module, names[:1], outputs)
        return layer, added

    def _biased(self, call: Call) -> tuple[Call, str] | None:
        """The node that adds a vector of weights to a product and is all that uses it."""
        weight = self.weights.get(call.inputs[1])
        output = call.outputs[0]
        uses = self.uses[output]
        if weight is None or weight.dim() != 2 or len(uses) != 1 or output in self.outputs:
            return None
        added, slot = uses[0]
        if added.operator.name != "Add" or added.operator.domain or len(added.inputs) != 2:
            return None
        bias = added.inputs[1 - slot]
        found = self.weights.get(bias)
        return (added, bias) if found is not None and found.shape == weight.shape[1:] else None

    def _alone(self, layer: Layer, names: Sequence[str]) -> bool:
        """A turned weight is held turned, so that nothing else may want it as it was."""
        return not layer.turned or len(self.uses[names[layer.tensors["weight"]]]) == 1

    def _parameter(self, name: str, turned: bool = False) -> nn.Parameter:
        """The parameter of an initialiser: one, whoever shares it; frozen where it is no weight."""
        if (name, turned) not in self.parameters:
            trained = name in self.weights
            tensor = self.weights[name] if trained else self.constants[name]
            held = tensor.t().contiguous() if turned else tensor
            self.parameters[name, turned] = nn.Parameter(held, requires_grad=trained)
        return self.parameters[name, turned]

    def _statistic(self, name: str) -> Tensor:
        """Training changes it, here and nowhere else."""
        held: Tensor = self.weights[name] if name in self.weights else self.constants[name]
        return held.clone()

    # What the graph itself holds

    def _hold(self, module: OnnxGraph) -> None:
        """Parameters, buffers and numbers that nodes are given."""
        passed = {name for step in self.steps for name in step.inputs} | set(self.outputs)
        for name in sorted(passed):
            if name in self.weights:
                tensor = self._parameter(name)
                path = self.names.take(self.paths.get(name, path_of(name)))
                container(module, path[:-1]).register_parameter(path[-1], tensor)
                module.tensors[name] = path
            elif name in self.constants:
                self._constant(module, name)

    def _constant(self, module: OnnxGraph, name: str) -> None:
        sized = SIZES.keys() | _CONTROL
        number = known(self.constants[name])
        if number is not None and any(c.operator.name in sized for c, _ in self.uses[name]):
            module.numbers[name] = number
            return
        path = self.names.take(path_of(name))
        persistent = name in self.persistent
        at = container(module, path[:-1])
        at.register_buffer(path[-1], self.constants[name], persistent=persistent)
        module.tensors[name] = path


def _with_ends(steps: Sequence[Step], kept: set[str]) -> tuple[Step, ...]:
    """The steps, each with the values that it was the last to use."""
    seen, ended = set(kept), []
    for step in reversed(steps):
        dead = tuple(n for n in dict.fromkeys((*step.outputs, *step.inputs)) if n and n not in seen)
        seen.update(dead)
        ended.append(Step(step.path, step.inputs, step.outputs, dead))
    return tuple(reversed(ended))
