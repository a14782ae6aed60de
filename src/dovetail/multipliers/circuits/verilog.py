"""A circuit as combinational Verilog, and a test bench that goes through all its operands."""

from __future__ import annotations

from dovetail.multipliers.circuits.circuit import Circuit
from dovetail.multipliers.circuits.gates import AND, NOT, OR, WIRE, XOR

__all__ = ["testbench", "verilog"]

_OPERATOR = {AND: "&", OR: "|", XOR: "^"}


def verilog(circuit: Circuit, name: str, remark: str) -> str:
    """A module with the inputs ``a`` and ``w`` and the output ``y``, a wire for each gate.

    >>> from dovetail.multipliers.circuits.array import array_circuit
    >>> print(verilog(array_circuit(1, (1, 1), False), "one", "an and"))
    // an and
    module one(input [0:0] a, input [0:0] w, output [1:0] y);
      wire n4 = a[0] & w[0];
      assign y = {1'b0, n4};
    endmodule
    <BLANKLINE>
    """
    names = {0: "1'b0", 1: "1'b1"}
    for port, nets in (("a", circuit.first), ("w", circuit.second)):
        names |= {net: f"{port}[{place}]" for place, net in enumerate(nets)}
    lines = []
    for net, kind, a, b, _ in circuit.program:
        names[net] = f"n{net}"
        if kind in (NOT, WIRE):
            value = f"{'~' if kind == NOT else ''}{names[a]}"
        else:
            value = f"{names[a]} {_OPERATOR[kind]} {names[b]}"
        lines.append(f"  wire n{net} = {value};")
    sign = "signed " if circuit.signed else ""
    ports = ", ".join(
        f"{direction} {sign}[{len(nets) - 1}:0] {port}"
        for direction, port, nets in (
            ("input", "a", circuit.first),
            ("input", "w", circuit.second),
            ("output", "y", circuit.result),
        )
    )
    result = ", ".join(names[net] for net in reversed(circuit.result))
    body = "\n".join(lines)
    body = f"{body}\n" if body else ""
    return f"// {remark}\nmodule {name}({ports});\n{body}  assign y = {{{result}}};\nendmodule\n"


def testbench(circuit: Circuit, name: str, table: str) -> str:
    """A module ``<name>_tb`` that compares all products with the words of the file ``table``.

    >>> from dovetail.multipliers.circuits.array import array_circuit
    >>> "$readmemh" in testbench(array_circuit(1, (1, 1), False), "one", "one.hex")
    True
    """
    first, second, result = (len(n) for n in (circuit.first, circuit.second, circuit.result))
    return f"""\
// Compares {name} with all words of {table}: that of the codes a and w is a * 2**{second} + w.
`timescale 1ns/1ps
module {name}_tb;
  reg [{first - 1}:0] a;
  reg [{second - 1}:0] w;
  wire [{result - 1}:0] y;
  reg [{result - 1}:0] expected [0:{(1 << first + second) - 1}];
  integer i, wrong;
  {name} dut(.a(a), .w(w), .y(y));
  initial begin
    $readmemh("{table}", expected);
    wrong = 0;
    for (i = 0; i < {1 << first + second}; i = i + 1) begin
      a = i >> {second};
      w = i;
      #1;
      if (y !== expected[i]) wrong = wrong + 1;
    end
    if (wrong == 0) $display("{name}: all {1 << first + second} products are right");
    else $display("{name}: %0d products are wrong", wrong);
    $finish;
  end
endmodule
"""
