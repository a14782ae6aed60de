"""The command line: exit codes, streams, and messages without tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dovetail.cli.main import main
from dovetail.errors import DovetailError

ROOT = Path(__file__).parents[2]
FILE = """\
dovetail: 1
model: {builtin: digits-cnn}
data: {builtin: digits}
rules:
  - {match: "*", input: int8, weight: int8}
  - {match: "conv*", mul: mul8s_1L2N}
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path: Path = tmp_path / "digits.yaml"
    path.write_text(FILE)
    return path


def refused(capsys, *arguments: str | Path) -> str:
    """The message on standard error of a command that ends with code 2 and prints nothing else."""
    assert main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return str(err)


def test_run_prints_tables_and_writes_the_report(file, tmp_path, capsys) -> None:
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) <= 100
    conv1 = next(line for line in out.splitlines() if line.startswith("conv1"))
    assert conv1.split()[:5] == ["conv1", "int8", "×", "int8", "by"]
    assert "line 5, 6" in conv1
    for words in ("fp32", "int8, exact", "int8, approximate", "Accuracy on 719 test samples"):
        assert words in out
    assert (tmp_path / "out" / "report.html").exists()


def test_a_narrow_terminal_gets_no_figure(file, tmp_path, capsys, monkeypatch) -> None:
    arguments = ["run", str(file), "--out", str(tmp_path)]
    monkeypatch.setenv("COLUMNS", "80")
    assert main(arguments) == 0
    assert "●" not in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "100")
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("●") == 3


def test_json_is_all_that_is_printed_and_the_same_twice(file, tmp_path, capsys) -> None:
    arguments = ["run", str(file), "--json", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    first, err = capsys.readouterr()
    assert err == ""
    assert main(arguments) == 0
    assert capsys.readouterr().out == first
    assert json.loads(first)["stages"][0]["name"] == "fp32"


def test_a_missed_requirement_ends_with_one(file, tmp_path, capsys) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["run", str(file), *out, "--set", "require.accuracy=>=99%"]) == 1
    assert "error: accuracy 0." in capsys.readouterr().err
    assert main(["run", str(file), *out, "--set", "require.accuracy=<99%"]) == 0
    assert "meets <99%" in capsys.readouterr().out


def test_check_compares_every_number(file, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["run", str(file), "--out", str(out)]) == 0
    assert main(["run", "--check", str(out)]) == 0
    assert "every number is the same" in capsys.readouterr().out
    report = out / "report.json"
    report.write_text(report.read_text().replace('"agreement": 1.0', '"agreement": 0.5', 1))
    assert main(["run", "--check", str(out), "--json"]) == 1
    found, err = capsys.readouterr()
    assert json.loads(found)["differences"] == ["stages.0.agreement: was 0.5, is 1.0"]
    assert "stages.0.agreement" in err
    assert "give only the folder" in refused(capsys, "run", file, "--check", out)


def test_plan_draws_a_tree_and_a_graph(file, tmp_path, capsys) -> None:
    assert main(["plan", str(file), "--tree", "--graph", str(tmp_path / "g.mmd")]) == 0
    out, _ = capsys.readouterr()
    assert "conv1 Conv2d  input=int8, weight=int8, mul=mul8s_1L2N@v2022" in out
    assert (tmp_path / "g.mmd").read_text().startswith("flowchart TD\n")
    assert main(["plan", str(file), "--graph", str(tmp_path / "g.dot")]) == 0
    capsys.readouterr()
    assert (tmp_path / "g.dot").read_text().startswith("digraph {\n")
    message = refused(capsys, "plan", file, "--graph", tmp_path / "g.svg")
    assert "unknown kind of graph '.svg'" in message


def test_plan_says_who_gets_what_from_which_rule(file, capsys) -> None:
    assert main(["plan", str(file)]) == 0
    out = capsys.readouterr().out
    assert [line.split()[-2:] for line in out.splitlines() if " mul " in line] == (
        [["mul8s_1L2N@v2022", "digits.yaml:6"]] * 5
    )
    assert main(["plan", str(file), "--json", "--set", "rules.1.match=conv1"]) == 0
    ops = json.loads(capsys.readouterr().out)["ops"]
    assert [op["op"] for op in ops if "mul" in op["arithmetic"]] == ["conv1"]


@pytest.mark.parametrize("command", ["plan", "cost"])
def test_no_trained_weights_are_needed(file, tmp_path, monkeypatch, capsys, command) -> None:
    (tmp_path / "images.py").write_text(
        "import torch\n"
        "def loaders(seed, batch_size):\n"
        "    batch = torch.zeros(1, 3, 32, 32), torch.zeros(1).long()\n"
        "    return {'train': [batch], 'test': [batch]}\n"
    )
    monkeypatch.chdir(tmp_path)
    changes = "model.builtin=resnet18", "data={python: images:loaders}", "rules.1.match=conv1"
    sets = [word for change in changes for word in ("--set", change)]
    assert main([command, str(file), *sets]) == 0
    assert "layer4.1.conv2" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rules.1.match=conx1", "'conx1' matches no operation; did you mean 'conv1'?"),
        ("rules.1.mull=exact", "unknown key 'mull'; did you mean 'mul'?"),
        ("rules.0.input=int9x", "unknown format 'int9x'; did you mean 'int9'?"),
        ("rules.1.mul=mul8s_1L2X", "unknown multiplier 'mul8s_1L2X'"),
        ("rules.0.input=int12", "conv1 (digits.yaml:5, digits.yaml:6): input=int12"),
        ("rules.1.mul=table.npy", "table.npy: no such file"),
        ("seed=one", "--set seed=one: seed: expected a whole number, got the text 'one'"),
    ],
)
def test_bad_input_is_one_clear_message(file, capsys, command, override, message) -> None:
    assert message in refused(capsys, command, file, "--set", override)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((255, 256), dtype=np.int32), "255"),
        (np.full((256, 256), 2**40), "int32"),
        (np.zeros((256, 256)), "float64"),
        (np.zeros((16, 16), dtype=np.int32), "input=int8"),
    ],
)
def test_a_table_of_the_wrong_shape_or_range_is_refused(
    file, tmp_path, capsys, table, message
) -> None:
    np.save(tmp_path / "t.npy", table)
    assert message in refused(capsys, "plan", file, "--set", f"rules.1.mul={tmp_path / 't.npy'}")


def test_files_that_are_none_are_refused(tmp_path, capsys) -> None:
    (tmp_path / "bad.yaml").write_text("rules:\n  - {match: x")
    assert "bad.yaml:2:14: expected ',' or '}'" in refused(capsys, "run", tmp_path / "bad.yaml")
    assert "no file" in refused(capsys, "run", tmp_path / "absent.yaml")
    assert "which experiment?" in refused(capsys, "run")


def test_usage_errors_end_with_two(capsys) -> None:
    assert main(["runn"]) == 2
    assert "No such command 'runn'" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dovetail 0.")
    assert main(["--help"]) == 0
    assert "arithmetic that does not exist yet" in capsys.readouterr().out


def test_the_traceback_can_be_asked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOVETAIL_TRACEBACK", "1")
    with pytest.raises(DovetailError):
        main(["run", str(tmp_path / "absent.yaml")])


def test_multiplier_list(capsys) -> None:
    assert main(["multiplier", "list", "--bits", "8", "--signed"]) == 0
    out = capsys.readouterr().out
    assert "mul8s_1KV9@v2022" in out
    assert "drum(k=6, bits=8, signed=True)" in out
    assert main(["multiplier", "list", "--bits", "12", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["circuits"]
    assert {row["bits"] for row in rows} == {12}


def test_multiplier_show(capsys) -> None:
    assert main(["multiplier", "show", "mul8s_1KV9"]) == 0
    out = capsys.readouterr().out
    for words in ("rank 4", "68.75 %", "PDK45", "int8 × int8", "emulated by"):
        assert words in out
    assert main(["multiplier", "show", "drum(k=4)", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["errors"]["wce"] == 4352
    assert facts["cost"] is None
    assert "did you mean" in refused(capsys, "multiplier", "show", "mul8s_1KV")


def test_show_formats_and_schema(capsys) -> None:
    assert main(["show", "formats"]) == 0
    assert "int8" in capsys.readouterr().out
    assert main(["show", "formats", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["int8"]["lowest"], rows["int8"]["highest"]) == (-127, 127)
    assert main(["show", "schema"]) == 0
    assert "rules" in json.loads(capsys.readouterr().out)["properties"]


def test_the_shipped_example_in_a_process_of_its_own(tmp_path) -> None:
    example = ROOT / "examples" / "digits.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "dovetail", "run", str(example), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "retrained" in done.stdout


def test_multiplier_show_prints_the_published_figures_of_a_circuit_without_products(capsys) -> None:
    assert main(["multiplier", "show", "mul8u_197B"]) == 0
    out, _ = capsys.readouterr()
    assert "mul8u_197B@v2022, as published" in out
    assert "mean |error|" in out
    assert "Import its table or its C model" in out
    assert main(["multiplier", "show", "mul8u_197B", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["published"]["mae"] == 119
    assert facts["products"] is None
