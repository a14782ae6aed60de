"""`load_circuit`: the multiplier that a file of combinational Verilog describes."""

from __future__ import annotations

from pathlib import Path

from dovetail.errors import DovetailError, unknown
from dovetail.multipliers.circuits.circuit import Circuit, circuit_of
from dovetail.multipliers.circuits.gates import OPEN, Gates, Word
from dovetail.multipliers.files.verilog.elaborate import elaborate
from dovetail.multipliers.files.verilog.modules import read_modules
from dovetail.multipliers.files.verilog.tree import Module
from dovetail.multipliers.files.words import named_circuit, read_text

__all__ = ["load_circuit"]

_MOST_BITS = 63


def load_circuit(
    path: str | Path, module: str | None = None, signed: bool | None = None
) -> Circuit:
    """The multiplier that a file of combinational Verilog describes.

    Its module has two inputs, the first one the first operand, and one output; ``module`` picks it
    where several such are put into no other. ``input signed``, or a name such as ``mul12s_2PP``,
    says that the operands and the product are two's complement, unless ``signed`` does. Read are
    ``assign`` with the operators of integers but ``/ % **``, the gate primitives, instances of the
    file's modules, vectors, constant parameters; anything else is refused with file and line.

    >>> load_circuit("mul8u_17KS.v")(100, 3)  # doctest: +SKIP
    array(300)
    """
    path = Path(path)
    try:
        return _circuit(path, read_modules(read_text(path), str(path)), module, signed)
    except RecursionError:
        raise DovetailError(
            f"{path}: an expression is nested too deeply; name its parts by wires"
        ) from None


def _circuit(
    path: Path, modules: dict[str, Module], module: str | None, signed: bool | None
) -> Circuit:
    top = _top(modules, module, path)
    inputs, output = _ports(top, path)
    if signed is None:
        declared = [top.nets[port].signed for port in inputs]
        if declared[0] != declared[1]:
            raise DovetailError(f"{path}:{top.line}: one operand of {top.name} is signed, one not")
        named = named_circuit(top.name)
        signed = declared[0] or (named is not None and named[1])
    if top.nets[output].width > _MOST_BITS:
        raise DovetailError(f"{path}:{top.line}: '{output}' has more than {_MOST_BITS} bits")
    gates, ports, names = elaborate(modules, top.name, str(path))
    operands = [ports[port] for port in inputs]
    order = _ordered(gates, operands, ports[output], names, path)
    return circuit_of(gates, order, operands, ports[output], signed, top.name)


def _top(modules: dict[str, Module], name: str | None, path: Path) -> Module:
    if not modules:
        raise DovetailError(f"{path} holds no module")
    if name is not None:
        if name not in modules:
            raise unknown(f"module of {path}", name, modules)
        return modules[name]
    used = {
        instance.module
        for module in modules.values()
        for instance in module.instances
        if instance.module != module.name
    }
    tops = [module for module in modules.values() if module.name not in used]
    if len(tops) > 1:  # a cell that nothing uses is no multiplier
        tops = [module for module in tops if _is_multiplier(module)]
    if len(tops) != 1:
        choices = " or ".join(repr(module.name) for module in tops or modules.values())
        raise DovetailError(f"{path} holds several multipliers; pick one with function={choices}")
    return tops[0]


def _is_multiplier(module: Module) -> bool:
    nets = [module.nets[port] for port in module.ports]
    inputs = [net for net in nets if net.direction == "input"]
    outputs = [net.width for net in nets if net.direction == "output"]
    return len(inputs) == 2 and len(outputs) == 1 and outputs[0] > 1


def _ports(top: Module, path: Path) -> tuple[list[str], str]:
    inputs = [port for port in top.ports if top.nets[port].direction == "input"]
    outputs = [port for port in top.ports if top.nets[port].direction == "output"]
    if len(inputs) != 2 or len(outputs) != 1:
        raise DovetailError(
            f"{path}:{top.line}: {top.name} has the inputs {', '.join(inputs) or '(none)'} and the "
            f"outputs {', '.join(outputs) or '(none)'}; a multiplier has two inputs and one output"
        )
    return inputs, outputs[0]


def _ordered(
    gates: Gates, operands: list[Word], result: Word, names: dict[int, str], path: Path
) -> list[int]:
    """The gates that the result needs, each after those that it reads."""
    done = {0, 1, *operands[0], *operands[1]}
    order: list[int] = []
    open_: set[int] = set()
    stack = result[::-1]
    while stack:
        net = stack[-1]
        if net in done:
            stack.pop()
            continue
        kind, *reads = gates.driven[net]
        if kind == OPEN:
            raise DovetailError(f"{path}: '{names[net]}' has no driver")
        missing = [read for read in reads if read not in done]
        if not missing:
            done.add(net)
            order.append(stack.pop())
            continue
        if net in open_:
            around = stack[stack.index(net) :]
            loop = next(names[n] for n in around if n in open_ - done and n in names)
            raise DovetailError(f"{path}: '{loop}' depends on itself; a multiplier has no loops")
        open_.add(net)
        stack += missing
    return order
