"""From modules to gates: widths and signs by the rules of IEEE 1364-2005, clause 5."""

from __future__ import annotations

from dovetail.errors import DovetailError, unknown
from dovetail.multipliers.circuits.gates import OPEN, WIRE, Gates, Word
from dovetail.multipliers.files.verilog.expressions import REDUCTIONS
from dovetail.multipliers.files.verilog.tree import (
    Binary,
    Cast,
    Choice,
    Concat,
    Expression,
    Gate,
    Instance,
    Module,
    Net,
    Number,
    Select,
    Unary,
)

__all__ = ["elaborate"]

_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_SHIFTS = ("<<", ">>", "<<<", ">>>")


def elaborate(
    modules: dict[str, Module], top: str, path: str
) -> tuple[Gates, dict[str, Word], dict[int, str]]:
    """The gates of a module and of all inside it: (gates, the nets of each port, names of nets)."""
    gates = Gates()
    names: dict[int, str] = {}
    scope = _Scope(modules, modules[top], gates, path, names, "", (top,))
    return gates, {port: scope.nets[port] for port in modules[top].ports}, names


class _Scope:
    """One module put in once."""

    def __init__(
        self,
        modules: dict[str, Module],
        module: Module,
        gates: Gates,
        path: str,
        names: dict[int, str],
        prefix: str,
        inside: tuple[str, ...],
    ) -> None:
        self.modules, self.module, self.gates, self.path = modules, module, gates, path
        self.names, self.prefix, self.inside = names, prefix, inside
        self.nets: dict[str, Word] = {}
        for name, net in module.nets.items():
            self.nets[name] = [gates.net() for _ in range(net.width)]
            step = 1 if net.high >= net.low else -1
            for place, bit in enumerate(self.nets[name]):
                index = f"[{net.low + step * place}]" if net.width > 1 else ""
                names[bit] = f"{prefix}{name}{index}"
        for item in module.assignments:
            target = self.target(item.target)
            width, signed = self.size(item.value)
            value = self.word(item.value, max(width, len(target)), signed)
            self.drive(target, value[: len(target)], item.line)
        for gate in module.gates:
            self.gate(gate)
        for instance in module.instances:
            self.instance(instance)

    def fail(self, line: int, message: str) -> DovetailError:
        return DovetailError(f"{self.path}:{line}: {message}")

    def drive(self, target: Word, value: Word, line: int) -> None:
        for bit, source in zip(target, value, strict=True):
            if self.gates.driven[bit][0] != OPEN:
                raise self.fail(line, f"'{self.names[bit]}' has two drivers")
            self.gates.driven[bit] = (WIRE, source, source)

    # Nets --------------------------------------------------------------------------------------

    def net(self, select: Select) -> Net:
        if select.name not in self.module.nets:
            nets = self.module.nets
            raise self.fail(select.line, str(unknown("net", select.name, nets)))
        return self.module.nets[select.name]

    def select(self, select: Select) -> Word:
        net, bits = self.net(select), self.nets[select.name]
        if select.high is None or select.low is None:
            return bits
        step = 1 if net.high >= net.low else -1
        high, low = ((index - net.low) * step for index in (select.high, select.low))
        if not 0 <= low <= high < len(bits):
            raise self.fail(
                select.line,
                f"'{select.name}' has the bits [{net.high}:{net.low}], not "
                f"[{select.high}:{select.low}]",
            )
        return bits[low : high + 1]

    def target(self, value: Expression) -> Word:
        """The nets that an assignment or an output drives."""
        if isinstance(value, Concat):
            return [bit for part in reversed(value.parts) for bit in self.target(part)]
        if not isinstance(value, Select):
            raise self.fail(value.line, "only nets, parts of them and {...} of these are driven")
        if self.net(value).direction == "input":
            raise self.fail(value.line, f"the input '{value.name}' cannot be driven inside")
        return self.select(value)

    # Expressions -------------------------------------------------------------------------------

    def size(self, value: Expression) -> tuple[int, bool]:
        """The width and the sign that an expression has by itself."""
        if isinstance(value, Number):
            return value.width or 32, value.signed
        if isinstance(value, Select):
            whole = value.high is None
            return len(self.select(value)), whole and self.net(value).signed
        if isinstance(value, Concat):
            return sum(self.size(part)[0] for part in value.parts), False
        if isinstance(value, Cast):
            return self.size(value.operand)[0], value.signed
        if isinstance(value, Unary):
            return (1, False) if value.operator in ("!", *REDUCTIONS) else self.size(value.operand)
        if isinstance(value, Choice):
            return self.wider(value.yes, value.no)
        if value.operator in ("&&", "||", *_COMPARISONS):
            return 1, False
        if value.operator in _SHIFTS:
            return self.size(value.left)
        return self.wider(value.left, value.right)

    def wider(self, left: Expression, right: Expression) -> tuple[int, bool]:
        sizes = self.size(left), self.size(right)
        return max(size[0] for size in sizes), all(size[1] for size in sizes)

    def alone(self, value: Expression) -> Word:
        """An expression whose width nothing around it decides."""
        return self.word(value, *self.size(value))

    def word(self, value: Expression, width: int, signed: bool) -> Word:
        """An expression at the width and sign that its context gives it."""
        if isinstance(value, Unary) and value.operator in ("~", "-", "+"):
            operand = self.word(value.operand, width, signed)
            if value.operator == "~":
                return [self.gates.inverse(bit) for bit in operand]
            return (
                operand if value.operator == "+" else self.gates.subtract([0] * width, operand)[0]
            )
        if isinstance(value, Choice):
            condition = self.gates.any_of(self.alone(value.condition))
            sides = (self.word(side, width, signed) for side in (value.yes, value.no))
            return [self.gates.choose(condition, *pair) for pair in zip(*sides, strict=True)]
        if isinstance(value, Binary) and value.operator in _SHIFTS:
            word = self.word(value.left, width, signed)
            fill = word[-1] if value.operator == ">>>" and signed else 0
            left = value.operator.startswith("<")
            return self.gates.shift(word, self.alone(value.right), left, fill)
        if isinstance(value, Binary) and value.operator not in ("&&", "||", *_COMPARISONS):
            left_word = self.word(value.left, width, signed)
            return self.operate(value.operator, left_word, self.word(value.right, width, signed))
        found = self.leaf(value)
        return (found + [found[-1] if signed else 0] * (width - len(found)))[:width]

    def operate(self, operator: str, left: Word, right: Word) -> Word:
        gates = self.gates
        if operator == "+":
            return gates.add(left, right)[0]
        if operator == "-":
            return gates.subtract(left, right)[0]
        if operator == "*":
            return gates.multiply(left, right)
        kind = {"&": gates.both, "|": gates.either}.get(operator, gates.xor)
        found = [kind(a, b) for a, b in zip(left, right, strict=True)]
        return [gates.inverse(bit) for bit in found] if "~" in operator else found

    def leaf(self, value: Expression) -> Word:
        """What has its own width: literals, nets, concatenations, casts, tests."""
        if isinstance(value, Number):
            width = value.width or max(32, value.value.bit_length())
            return [value.value >> place & 1 for place in range(width)]
        if isinstance(value, Select):
            return self.select(value)
        if isinstance(value, Concat):
            return [bit for part in reversed(value.parts) for bit in self.alone(part)]
        if isinstance(value, Cast):
            return self.alone(value.operand)
        if isinstance(value, Unary):
            return [self.reduced(value.operator, self.alone(value.operand))]
        assert isinstance(value, Binary)
        if value.operator in ("&&", "||"):
            sides = [self.gates.any_of(self.alone(side)) for side in (value.left, value.right)]
            join = self.gates.both if value.operator == "&&" else self.gates.either
            return [join(*sides)]
        return [self.compare(value)]

    def reduced(self, operator: str, word: Word) -> int:
        if operator == "!":
            return self.gates.inverse(self.gates.any_of(word))
        kinds = {"&": self.gates.all_of, "|": self.gates.any_of, "^": self.gates.parity}
        found = kinds[operator.strip("~")](word)
        return self.gates.inverse(found) if "~" in operator else found

    def compare(self, value: Binary) -> int:
        width, signed = self.wider(value.left, value.right)
        left, right = (self.word(side, width, signed) for side in (value.left, value.right))
        if value.operator in ("==", "!="):
            differs = self.gates.any_of(self.operate("^", left, right))
            return differs if value.operator == "!=" else self.gates.inverse(differs)
        if signed:  # the order of two's complement is that of the codes with the top bit inverted
            left, right = ([*w[:-1], self.gates.inverse(w[-1])] for w in (left, right))
        if value.operator in (">", "<="):
            left, right = right, left
        no_less = self.gates.subtract(left, right)[1]
        return no_less if value.operator in (">=", "<=") else self.gates.inverse(no_less)

    # What is put in ----------------------------------------------------------------------------

    def gate(self, gate: Gate) -> None:
        output, *inputs = gate.terminals
        target = self.target(output)
        words = [self.alone(value) for value in inputs]
        if any(len(word) != 1 for word in (target, *words)):
            raise self.fail(gate.line, f"the terminals of '{gate.kind}' are single bits")
        word = [word[0] for word in words]
        plain = gate.kind.removeprefix("x").removeprefix("n")
        if gate.kind in ("not", "buf"):
            found = word[0]
        elif plain == "and":
            found = self.gates.all_of(word)
        else:
            found = (self.gates.parity if "x" in gate.kind else self.gates.any_of)(word)
        inverted = gate.kind in ("not", "nand", "nor", "xnor")
        self.drive(target, [self.gates.inverse(found) if inverted else found], gate.line)

    def instance(self, instance: Instance) -> None:
        if instance.module not in self.modules:
            choices = self.modules
            text = unknown("module", instance.module, choices)
            raise self.fail(instance.line, f"{text}; add its definition to this file")
        if instance.module in self.inside:
            raise self.fail(instance.line, f"the module '{instance.module}' contains itself")
        module = self.modules[instance.module]
        inner = _Scope(
            self.modules,
            module,
            self.gates,
            self.path,
            self.names,
            f"{self.prefix}{instance.name}.",
            (*self.inside, instance.module),
        )
        for port, value in self.connected(instance, module):
            if value is None:
                continue
            bits = inner.nets[port]
            if module.nets[port].direction == "input":
                outside = self.alone(value)
                sides = (bits, outside)
            else:
                outside = self.target(value)
                sides = (outside, bits)
            if len(bits) != len(outside):
                raise self.fail(
                    instance.line,
                    f"the port '{port}' of {instance.module} has {len(bits)} bits, what is "
                    f"connected to it {len(outside)}",
                )
            self.drive(*sides, instance.line)

    def connected(self, instance: Instance, module: Module) -> list[tuple[str, Expression | None]]:
        """The connections of an instance, by the ports' names."""
        given = instance.connections
        if all(port is None for port, _ in given):
            if len(given) > len(module.ports):
                raise self.fail(
                    instance.line, f"{module.name} has {len(module.ports)} ports, not {len(given)}"
                )
            return [(port, value) for port, (_, value) in zip(module.ports, given, strict=False)]
        found: dict[str, Expression | None] = {}
        for port, value in given:
            if port is None or port in found:
                raise self.fail(instance.line, f"'{instance.name}' connects its ports unclearly")
            if port not in module.ports:
                raise self.fail(
                    instance.line, str(unknown(f"port of {module.name}", port, module.ports))
                )
            found[port] = value
        return list(found.items())
