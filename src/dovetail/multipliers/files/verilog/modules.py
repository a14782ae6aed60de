"""The modules of a Verilog file: heads, declarations, assignments, gates, instances."""

from __future__ import annotations

from dovetail.multipliers.files.verilog.expressions import (
    Constants,
    constant,
    expression,
    primary,
)
from dovetail.multipliers.files.verilog.tokens import WIDEST, Tokens
from dovetail.multipliers.files.verilog.tree import (
    Assignment,
    Expression,
    Gate,
    Instance,
    Module,
    Net,
    Select,
)

__all__ = ["GATES", "read_modules"]

GATES = ("and", "nand", "or", "nor", "xor", "xnor", "not", "buf")
_UNREAD = (
    *("always", "always_comb", "initial", "generate", "genvar", "for", "if", "case", "function"),
    *("task", "reg", "logic", "bit", "integer", "real", "inout", "tri", "wand", "wor", "supply0"),
    *("supply1", "specify", "defparam"),
)


def read_modules(text: str, path: str) -> dict[str, Module]:
    """Every module of the text by its name; what is not combinational structure is refused.

    >>> found = read_modules("module n(input a, output y); assign y = ~a; endmodule", "n.v")
    >>> found["n"].ports, len(found["n"].assignments)
    (['a', 'y'], 1)
    """
    tokens = Tokens(text, path)
    modules: dict[str, Module] = {}
    while tokens.next.kind != "end":
        module = _Reader(tokens).module()
        if module.name in modules:
            raise tokens.fail(module.line, f"the module '{module.name}' is defined twice")
        modules[module.name] = module
    return modules


class _Reader:
    """Reads one module."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.constants: Constants = {}

    def module(self) -> Module:
        tokens = self.tokens
        line = tokens.take("module").line
        self.made = Module(tokens.name(), line)
        if tokens.follows("#"):
            raise tokens.fail(line, "parameters in a module's head are not read; put them in it")
        if tokens.accept("("):
            self.head()
        tokens.take(";")
        while not tokens.accept("endmodule"):
            self.item()
        for port in self.made.ports:
            net = self.made.nets.get(port)
            if net is None or not net.direction:
                raise tokens.fail(line, f"the port '{port}' is declared neither input nor output")
        return self.made

    def head(self) -> None:
        """The ports: names alone, or declared on the spot."""
        tokens = self.tokens
        template: Net | None = None
        while not tokens.accept(")"):
            self.refuse()
            if direction := tokens.accept("input", "output"):
                template = self.declared(direction)
            line = tokens.next.line
            name = tokens.name()
            self.made.ports.append(name)
            if template is not None:
                self.declare(name, template, line)
            if not tokens.follows(")"):
                tokens.take(",")

    def item(self) -> None:
        tokens = self.tokens
        self.refuse()
        line = tokens.next.line
        word = tokens.name()
        if word in ("input", "output", "wire"):
            self.declaration("" if word == "wire" else word)
        elif word in ("parameter", "localparam"):
            self.parameters()
        elif word == "assign":
            while True:
                self.assign(primary(tokens, self.constants), line)
                if not tokens.accept(","):
                    break
        elif word in GATES:
            while True:
                self.gate(word)
                if not tokens.accept(","):
                    break
        else:
            while True:
                self.instance(word)
                if not tokens.accept(","):
                    break
        tokens.take(";")

    def refuse(self) -> None:
        token = self.tokens.next
        if token.text in _UNREAD or token.text in ("#", "@"):
            raise self.tokens.fail(
                token.line,
                f"'{token.text}' is not read; a multiplier is combinational: input, output, wire, "
                f"assign, the gates {', '.join(GATES)}, and instances of modules in this file",
            )

    def declared(self, direction: str) -> Net:
        """What comes after input, output or wire and before the names."""
        tokens = self.tokens
        tokens.accept("wire")
        self.refuse()
        signed, line = tokens.accept("signed") is not None, tokens.next.line
        high = low = 0
        if tokens.accept("["):
            high = constant(tokens, self.constants)
            tokens.take(":")
            low = constant(tokens, self.constants)
            tokens.take("]")
        if abs(high - low) >= WIDEST:
            raise tokens.fail(line, f"a vector of {abs(high - low) + 1} bits; at most {WIDEST}")
        return Net(direction, high, low, signed, line)

    def declaration(self, direction: str) -> None:
        tokens = self.tokens
        template = self.declared(direction)
        while True:
            line = tokens.next.line
            name = tokens.name()
            self.declare(name, template, line)
            if tokens.follows("="):
                self.assign(Select(name, None, None, line), line)
            if not tokens.accept(","):
                break

    def declare(self, name: str, net: Net, line: int) -> None:
        """A port may be declared once as such and once more as a wire."""
        before = self.made.nets.get(name)
        if before is None:
            self.made.nets[name] = net
            return
        same = (before.high, before.low) == (net.high, net.low)
        if not same or bool(before.direction) == bool(net.direction):
            raise self.tokens.fail(line, f"'{name}' is declared twice")
        signed = before.signed or net.signed
        direction = before.direction or net.direction
        self.made.nets[name] = Net(direction, net.high, net.low, signed, line)

    def parameters(self) -> None:
        tokens = self.tokens
        while True:
            name = tokens.name()
            tokens.take("=")
            self.constants[name] = constant(tokens, self.constants)
            if not tokens.accept(","):
                break

    def assign(self, target: Expression, line: int) -> None:
        self.tokens.take("=")
        value = expression(self.tokens, self.constants)
        self.made.assignments.append(Assignment(target, value, line))

    def gate(self, kind: str) -> None:
        tokens = self.tokens
        self.refuse()
        line = tokens.next.line
        if not tokens.follows("("):
            tokens.name()
        tokens.take("(")
        terminals = [expression(tokens, self.constants)]
        while tokens.accept(","):
            terminals.append(expression(tokens, self.constants))
        tokens.take(")")
        if len(terminals) < 2 or (kind in ("not", "buf") and len(terminals) != 2):
            wanted = "2" if kind in ("not", "buf") else "3 or more"
            raise tokens.fail(line, f"'{kind}' has {len(terminals)} terminals; expected {wanted}")
        self.made.gates.append(Gate(kind, tuple(terminals), line))

    def instance(self, module: str) -> None:
        tokens = self.tokens
        self.refuse()
        line = tokens.next.line
        name = tokens.name()
        tokens.take("(")
        connections: list[tuple[str | None, Expression | None]] = []
        while not tokens.accept(")"):
            if tokens.accept("."):
                port = tokens.name()
                tokens.take("(")
                value = None if tokens.follows(")") else expression(tokens, self.constants)
                tokens.take(")")
                connections.append((port, value))
            else:
                connections.append((None, expression(tokens, self.constants)))
            if not tokens.follows(")"):
                tokens.take(",")
        self.made.instances.append(Instance(module, name, tuple(connections), line))
