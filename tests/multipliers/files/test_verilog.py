"""Multipliers from Verilog: netlists as generators write them, and the rules of the language."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import dovetail.multipliers as dm
from dovetail.errors import DovetailError
from dovetail.multipliers.files.verilog import load_circuit

CELLS = """
/* mod */
module CELLHA( input A, input B, output YS, output YC );
    assign YS = A ^ B;
    assign YC = A & B;
endmodule
/* mod */
module CELLFA(input A, B, C, output YS, YC);
    assign YS = (A ^ B) ^ C;
    assign YC = (A & B) | (B & C) | (A & C);
endmodule
module CELLAND(A, B, Y);
    input A, B;
    output Y;
    and U1 (Y, A, B);
endmodule
"""


def netlist(first, second, signed=False, name="", dropped=0):
    """An array multiplier of cells: a row of partial products for each bit, added by ripple."""
    total = first + second
    lines, nets, carries = [], [], []
    column = [[] for _ in range(total + 1)]
    for i in range(first):
        for j in range(second):
            if i + j < dropped:
                continue
            negative = signed and (i == first - 1) != (j == second - 1)
            nets.append(f"P_{i}_{j}")
            if negative:  # Baugh-Wooley
                lines.append(f"assign P_{i}_{j} = ~(A[{i}] & B[{j}]);")
            else:
                lines.append(f"CELLAND U_{i}_{j} (.A(A[{i}]), .Y(P_{i}_{j}), .B(B[{j}]));")
            column[i + j].append(nets[-1])
    if signed:
        for place in (first - 1, second - 1, total - 1):
            column[place].append("1'b1")
    cell = 0
    for place in range(total):
        while len(column[place]) > 1:
            taken, column[place] = column[place][:3], column[place][3:]
            kind = "CELLFA" if len(taken) == 3 else "CELLHA"
            carries += [f"N[{2 * cell}]", f"N[{2 * cell + 1}]"]
            lines.append(f"{kind} n{cell}({', '.join([*taken, *carries[-2:]])});")
            column[place].append(carries[-2])
            column[place + 1].append(carries[-1])
            cell += 1
    bits = [column[place][0] if column[place] else "1'b0" for place in range(total)]
    name = name or f"mul{first}x{second}{'s' if signed else 'u'}_OWN"
    body = "\n  ".join(reversed(lines))  # order means nothing
    return f"""// MAE% = 0.00 %
module {name} ( A, B, O );
  input [{first} - 1:0] A;
  input [{second - 1}:0] B;
  output [{total - 1}:0] O;
  wire {",".join(nets)};
  wire [{2 * cell + 100}:0] N;
  {body}
  assign O = {{{",".join(reversed(bits))}}};
endmodule
{CELLS}"""


def write(folder, text, name="circuit.v"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("first", "second"), [(8, 8), (8, 4), (3, 5), (2, 2)])
def test_a_netlist_is_the_product(tmp_path, first, second, signed):
    m = dm.multiplier(write(tmp_path, netlist(first, second, signed)))
    assert (m.bits, m.signed) == ((first, second), signed)
    assert m.errors().wce == 0


def test_a_netlist_equals_its_family(tmp_path):
    path = write(tmp_path, netlist(8, 8, dropped=6))
    m = dm.multiplier(path, check="broken_array(drop_columns=6, signed=False)")
    assert m.name == "mul8x8u_OWN"
    with pytest.raises(
        DovetailError, match=r"differs from .* of 65536 products, first for \(1, 64"
    ):
        dm.multiplier(path, check="broken_array(drop_columns=7, signed=False)")


def test_wide_circuits_are_evaluated_pair_by_pair(tmp_path):
    path = write(tmp_path, netlist(16, 16, signed=True))
    m = dm.multiplier(path, check="exact(bits=16)")
    rng = np.random.default_rng(0)
    a, w = rng.integers(-(1 << 15), 1 << 15, (2, 3, 70000))
    assert np.array_equal(m(a, w), a * w)
    again = pickle.loads(pickle.dumps(m))
    assert again == m
    assert again(-(1 << 15), [-(1 << 15), 7]).tolist() == [1 << 30, -7 << 15]
    with pytest.raises(DovetailError, match=r"differs from .* sampled products"):
        dm.multiplier(path, check="broken_array(bits=16, drop_columns=1)")


def module(body, width=4, out=8, sign=""):
    return f"""`timescale 1ns / 1ps
    module m(input {sign} [{width - 1}:0] a, b, output {sign} [{out - 1}:0] y);
      {body}
    endmodule"""


UNSIGNED = [  # (text, its meaning over a, b in 0..15, modulo 256)
    ("assign y = a * b;", lambda a, b: a * b),
    ("assign y = a + b;", lambda a, b: a + b),
    ("assign y = a - b;", lambda a, b: a - b),
    ("assign y = -a;", lambda a, b: -a),
    ("assign y = ~a;", lambda a, b: ~a),  # widened before it is inverted
    ("assign y = {~a};", lambda a, b: ~a & 15),  # and not inside braces
    ("assign y = {4'b0, a} + {1'b1, b, 1'h0};", lambda a, b: a + (b << 1) + 32),
    ("assign y = (a + b) >> 1;", lambda a, b: a + b >> 1),  # the carry is kept
    ("assign y = {{2{a}}} ^ b;", lambda a, b: a * 17 ^ b),
    ("assign y = a << b;", lambda a, b: a << b),
    ("assign y = a >>> b[1:0];", lambda a, b: a >> (b & 3)),
    ("assign y = a == b ? 8'hAA : a < b ? {7'd0, 1'b1} : 2;", lambda a, b: (
        np.where(a == b, 0xAA, np.where(a < b, 1, 2)))),
    ("assign y = {a >= b, a <= b, a > b, a != b, &a, ~|a, ^a, !b};", lambda a, b: (
        (a >= b) * 128 + (a <= b) * 64 + (a > b) * 32 + (a != b) * 16 + (a == 15) * 8 + (a == 0) * 4
        + (a.astype(np.uint8)[..., None] >> np.arange(4) & 1).sum(-1) % 2 * 2 + (b == 0))),
    ("assign y = {a && b, a || b, a ~^ b, ~&a, ~^b[3:3]};", lambda a, b: (
        ((a > 0) & (b > 0)) * 128 + ((a > 0) | (b > 0)) * 64 + ((a ^ b) ^ 15) * 4
        + (a != 15) * 2 + (b < 8))),
    ("assign y = $signed(a);", lambda a, b: np.where(a > 7, a - 16, a)),
    ("assign y = $signed(a) * $signed(b);", lambda a, b: np.where(a > 7, a - 16, a)
        * np.where(b > 7, b - 16, b)),
    ("assign y = $signed(a) * b;", lambda a, b: a * b),  # one unsigned: all unsigned
    ("assign y = 4'sb1111 + $signed(a);", lambda a, b: np.where(a > 7, a - 16, a) - 1),
    ("assign y = ($signed(a) < $signed(b)) + ($signed(a) >>> 1);", lambda a, b: (
        (np.where(a > 7, a - 16, a) < np.where(b > 7, b - 16, b)) + (a >> 1))),
    ("wire [0:3] r; assign r = a; assign y = {r[0], r[3], r[1:2], 4'd0};", lambda a, b: (
        (a >> 3) * 128 + (a & 1) * 64 + (a >> 1 & 3) * 16)),
    ("wire [3:0] p = a, q = p; assign {y[7:4], y[3:0]} = {q, b};", lambda a, b: a * 16 + b),
    ("localparam W = 4, H = W - 1; wire [2*W-1:0] t = a * b; assign y = t[2*W-1:H] + H;",
     lambda a, b: (a * b >> 3) + 3),
    ("wire n0, n1, n2; nand (n0, a[0], a[1], a[2]); xnor g(n1, a[0], b[0]),"
     "h(n2, a[1], b[1], a[2]); wire s, t; nor (s, a[0], b[0]); buf (t, s);"
     "xor (y[3], a[0], a[1], a[2]); or (y[4], a[3], b[3]);"
     "assign y[2:0] = {n2, n1, n0}, y[5] = t; not (y[6], t); assign y[7] = 0;", lambda a, b: (
        ((a & 7) != 7) + ((a ^ b ^ 1) & 1) * 2 + ((a >> 1 ^ b >> 1 ^ a >> 2 ^ 1) & 1) * 4
        + ((a ^ a >> 1 ^ a >> 2) & 1) * 8 + ((a | b) >> 3) * 16
        + (((a | b) & 1) == 0) * 32 + ((a | b) & 1) * 64)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "meaning"), UNSIGNED)
def test_expressions_have_the_standard_widths_and_signs(tmp_path, text, meaning):
    m = dm.multiplier(write(tmp_path, module(text)))
    assert (m.bits, m.signed) == ((4, 4), False)
    a, b = np.arange(16)[:, None], np.arange(16)[None]
    assert np.array_equal(m.table(), np.broadcast_to(meaning(a, b) % 256, (16, 16)))


def test_signed_ports(tmp_path):
    path = write(tmp_path, module("assign y = a * b;", sign="signed"))
    assert dm.multiplier(path, check="exact(bits=4)").signed
    shifted = dm.multiplier(
        write(tmp_path, module("assign y = (a * b) >>> 1;", sign="wire signed"))
    )
    assert shifted(-3, 3) == -5
    assert not dm.multiplier(path, signed=False).signed  # the same gates, codes read as numbers
    assert dm.multiplier(write(tmp_path, module("assign y = a;")), signed=True)(-2, 1) == 14


def test_positions_open_outputs_and_directives(tmp_path):
    text = """`default_nettype none
    (* keep = "yes" *) module top(a, b, y);
      input wire [1:0] a, b; output [3:0] y; wire [3:0] y; // declared twice, as one may
      pair p0 (a, b, y[1:0], );
      pair \\p-1 (.x(a ^ b), .z({a[0], a[1]}), .sum(), .high(y[3:2]));
    endmodule
    `celldefine
    module pair(x, z, sum, high);
      input [1:0] x, z; output [1:0] sum, high;
      assign sum = x + z, high = x & z;
    endmodule
    `endcelldefine"""
    m = dm.multiplier(write(tmp_path, text))
    for a in range(4):
        for b in range(4):
            turned = a >> 1 | (a & 1) << 1
            assert m(a, b) == (a + b & 3) + (((a ^ b) & turned) << 2)


def test_function_picks_a_module(tmp_path):
    path = write(
        tmp_path, module("assign y = a;") + "\n" + module("assign y = b;").replace("m(", "n(")
    )
    with pytest.raises(DovetailError, match="several multipliers; pick one with function='m' or"):
        dm.multiplier(path)
    assert dm.multiplier(path, function="n")(3, 5) == 5
    with pytest.raises(DovetailError, match=r"unknown module .*'nn'; did you mean 'n'"):
        dm.multiplier(path, function="nn")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("\n always @(*) y = a;", r"circuit.v:3: 'always' is not read; a multiplier is combinat"),
        ("reg r;", "'reg' is not read"),
        ("wire w; assign y = w;", r"'w' has no driver"),
        ("assign y[3:0] = a;", r"'y\[4\]' has no driver"),
        ("assign y = a; assign y[2] = 0;", r"circuit.v:3: 'y\[2\]' has two drivers"),
        ("assign a = b;", "the input 'a' cannot be driven"),
        ("assign y = c;", r"circuit.v:3: unknown net 'c'"),
        ("assign y = a[4];", r"'a' has the bits \[3:0\], not \[4:4\]"),
        ("assign y = a[b];", "expected a constant"),
        ("assign y = a / b;", "expected ';', found '/'"),
        ("assign y = 4'hx;", "digits that are not of its base"),
        ("assign y = 2'd4;", "does not fit 2 bits"),
        ("wire p, q; assign p = q & a[0], q = p, y = q;", "'[pq]' depends on itself"),
        ("assign y = $random;", r"'\$random' is not read"),
        ("assign #2 y = a;", "expected a name, found '#'"),
        ("wire a;", "'a' is declared twice"),
        ("FAX1 u(a, b, y);", "unknown module 'FAX1'.*add its definition to this file"),
        ("m u(a, b, y);", "'m' contains itself"),
        ("and (y, a, b);", "the terminals of 'and' are single bits"),
        ("not (y[0]);", "'not' has 1 terminals; expected 2"),
        ("assign y = a & ;", "expected a name, found ';'"),
        ("assign y = `WIDTH;", "cannot read '`WIDTH;'"),
        ("assign y = a", "expected ';'"),
        ("assign {y, 1'b0} = a;", "only nets, parts of them"),
    ],
)
def test_what_is_not_read_is_refused_with_its_line(tmp_path, body, message):
    text = module(body).replace("      \n", "")
    with pytest.raises(DovetailError, match=message):
        dm.multiplier(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no module"),
        ("module m(a, y); input a; output y; assign y = a; endmodule", "the inputs a and the outp"),
        ("module m(a, b, y); input a, b; endmodule", "the port 'y' is declared neither"),
        ("module m(a, b, y); input signed a; input b; output y; endmodule", "is signed, one not"),
        ("module m #(parameter N = 8) (a);", "parameters in a module's head are not read"),
        (module("p u(.q(a));") + "\nmodule p(input r); endmodule",
         "unknown port of p 'q'"),
        (module("p u(a);") + "\nmodule p(input r); endmodule", "'r' of p has 1 bits, what is"),
        (module("") + "\n" + module(""), "the module 'm' is defined twice"),
        (module("assign y = a;", out=70), "more than 63 bits"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, text, message):
    with pytest.raises(DovetailError, match=message):
        dm.multiplier(write(tmp_path, text))


def test_bits_are_the_ports(tmp_path):
    path = write(tmp_path, module("assign y = a * b;"))
    assert dm.multiplier(path, bits=4).bits == (4, 4)
    with pytest.raises(DovetailError, match=r"have \(4, 4\) bits, not bits=8"):
        dm.multiplier(path, bits=8)


def test_the_program_frees_what_is_read_for_the_last_time(tmp_path):
    circuit = load_circuit(write(tmp_path, netlist(8, 8)))
    dead = [net for *_, nets in circuit.program for net in nets]
    assert len(dead) == len(set(dead)) > 100
    alive = most = 0
    for *_, nets in circuit.program:
        alive += 1 - len(nets)
        most = max(most, alive)
    assert most < len(circuit.program) / 2
