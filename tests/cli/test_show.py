"""``dovetail show formats`` and ``dovetail show format NAME``."""

from __future__ import annotations

import json

from dovetail.approximations import approximation_names
from dovetail.cli.main import main
from dovetail.cli.number_line import number_line
from dovetail.formats import format_examples
from dovetail.kinds import KINDS


def test_every_format_has_its_facts(capsys) -> None:
    assert main(["show", "formats", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(format_examples())
    assert rows["mxfp4"]["block"] == 32
    assert rows["mxfp4"]["max"] == 6.0
    assert rows["fp16"]["has_inf"] is True
    assert (rows["mxfp4"]["has_nan"], rows["fp4_e2m1fn"]["has_nan"]) == (True, False)
    assert rows["int8"]["rounding"] == rows["mxfp4"]["rounding"] == "NearestTiesToEven"
    assert rows["same"]["rounding"] is None
    assert rows["int8"]["is_static"] is True
    assert (rows["uint4"]["lowest"], rows["uint4"]["highest"]) == (0, 15)


def test_the_table_fits_100_columns(capsys) -> None:
    assert main(["show", "formats"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 100
    for words in ("fp8_e4m3fn", "inf NaN -0", "posit(8, 1)", "BFP[8|8]{64}(SN)", "RCEIL"):
        assert words in out


def test_a_number_line(capsys) -> None:
    assert main(["show", "format", "MXFP4[E2M1]{32}"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("mxfp4")
    assert "Values: 0 0.5 1 1.5 2 3 4 6" in out
    marks = next(line for line in out.splitlines() if line.startswith("|"))
    assert marks.count("|") == 15
    assert main(["show", "format", "int4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["values"] == [float(code) for code in range(-7, 8)]
    assert main(["show", "format", "fp32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["values"] is None


def test_lines_count_what_shares_a_place() -> None:
    marks, axis, ends = number_line([0.0, 1.0, 1.0001, 1.0002, 10.0], 11)
    assert marks == "|3        |"
    assert axis == "+---------+"
    assert ends.split() == ["0", "10"]


def test_a_misspelt_name_is_refused(capsys) -> None:
    assert main(["show", "format", "mxfp5"]) == 2
    assert "did you mean 'mxfp" in capsys.readouterr().err


def test_operations_and_their_fields(capsys) -> None:
    assert main(["show", "ops"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert all(kind in out for kind in KINDS)
    assert main(["show", "ops", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["add"]["fields"] == ["input", "other", "output", "grad"]
    assert rows["matmul"]["group"] == "product"


def test_approximated_functions(capsys) -> None:
    assert main(["show", "functions"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "newton(steps=1, format=fp32" in out
    assert main(["show", "functions", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(approximation_names())
    assert rows["base2"]["kinds"] == ["exp", "softmax", "log_softmax"]
    assert all(row["what"] for row in rows.values())


def test_a_sparsity_is_drawn_and_counted(capsys, tmp_path) -> None:
    assert main(["show", "sparsity", "1:4", "--rows", "8", "--png", f"{tmp_path}/mask.png"]) == 0
    out = capsys.readouterr().out
    assert "n of m 4" in out
    assert sum(0x2800 <= ord(c) < 0x2900 for c in out) == 64
    assert (tmp_path / "mask.png").read_bytes().startswith(b"\x89PNG")
    assert main(["show", "sparsity", "blocks(4, 4, 0.5)", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["density"] == 0.5
    assert main(["show", "sparsity", "1:5"]) == 2
    assert "the nearest that divides it is '1:4'" in capsys.readouterr().err
    assert main(["show", "sparsities", "--json"]) == 0
    assert "topk" in json.loads(capsys.readouterr().out)["patterns"]
    assert main(["show", "sparsities"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_families_of_multipliers(capsys) -> None:
    assert main(["show", "families"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "drum(k=6, bits=8, signed=True)" in out
    assert main(["show", "families", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["kulkarni"]["paper"].startswith("P. Kulkarni, P. Gupta, M. Ercegovac")
    assert {row["name"] for row in rows.values() if not row["paper"]} == {
        *("exact", "array", "sign_magnitude")  # nobody's
    }


def test_multipliers_from_files(capsys, tmp_path) -> None:
    path = tmp_path / "half.v"
    path.write_text("module half(input [3:0] a, b, output [7:0] y);assign y = a * b & ~1;endmodule")
    assert main(["multiplier", "show", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["bits"], facts["signed"], facts["errors"]["wce"]) == ([4, 4], False, 1)
    words = " ".join(f"{a * w & ~1:x}" for a in range(16) for w in range(16))
    table = tmp_path / "half.hex"
    table.write_text(words)
    show = ["multiplier", "show", str(table)]
    assert main(show) == 2
    assert "does not say whether its operands are signed" in capsys.readouterr().err
    assert main([*show, "--check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["errors"] == facts["errors"]
    assert main([*show, "--unsigned", "--bits", "5,3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bits"] == [5, 3]
    assert main([*show, "--unsigned", "--bits", "5x3"]) == 2
    assert "input,weight such as 8,4" in capsys.readouterr().err


def test_gradients_observers_and_recoveries_are_told(capsys) -> None:
    from dovetail.formats.observers import OBSERVERS
    from dovetail.gradients import gradient
    from dovetail.recipe.sections.recover import RecoverSpec

    assert main(["show", "gradients", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for product in told["products"]:
        for cast in told["casts"]:
            assert gradient(f"{product}({cast})").cast == cast
    assert main(["show", "observers", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(OBSERVERS)
    assert main(["show", "recoveries", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(RecoverSpec.model_fields)
    assert all(row["what"] and all(o["what"] for o in row["options"]) for row in rows)
    for command in ("gradients", "observers", "recoveries", "costs"):
        assert main(["show", command]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert max(map(len, out.splitlines())) <= 100


def test_tables_of_costs_are_told(capsys) -> None:
    assert main(["show", "costs", "--json"]) == 0
    assert {"horowitz2014"} <= {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert main(["show", "costs", "horowitz2014"]) == 0
    out = capsys.readouterr().out
    assert "multiply int8" in out
    assert "Source: " in out
    assert main(["show", "costs", "horowits2014"]) == 2
    assert "did you mean 'horowitz2014'" in capsys.readouterr().err
