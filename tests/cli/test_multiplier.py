"""`dovetail multiplier compare`, `import`, `fit`, `design`, and `show` under operands."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import dovetail as dv
from dovetail.analysis.operands import OperandCounts
from dovetail.cli.main import main

CIRCUIT = "mul8s_1KVM"  # (a & ~1) * w


@pytest.fixture
def counts(tmp_path):
    """Operands that are small and positive, as after a ReLU."""
    joint = np.zeros((256, 256), dtype=np.int64)
    joint[:20, :20] = 3
    path = tmp_path / "counts.npz"
    found = OperandCounts(dv.multiplier("exact", bits=8), 9, joint.sum(1), joint.sum(0), joint)
    found.save(path)
    return path


def told(capsys, *arguments):
    assert main(["multiplier", *map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def printed(capsys, *arguments):
    assert main(["multiplier", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *arguments):
    assert main(["multiplier", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert (out, "Traceback" in err) == ("", False)
    return err


def test_exact_without_a_width_is_shown_for_eight_bits(capsys):
    facts = told(capsys, "show", "exact")
    assert (facts["bits"], facts["signed"], facts["max_abs"]) == ([8, 8], True, 128 * 128)
    assert not told(capsys, "show", "exact", "--unsigned")["signed"]
    assert told(capsys, "show", "exact", "--bits", "4")["bits"] == [4, 4]


def test_show_under_operands(counts, capsys, tmp_path):
    facts = told(capsys, "show", CIRCUIT, "--operands", counts)
    expected = dv.multiplier(CIRCUIT).errors(joint=OperandCounts.load(counts).joint)
    under = facts["under_operands"]
    assert under["bias"] == pytest.approx(expected.bias)
    assert under["rms"] == pytest.approx((expected.variance + expected.bias**2) ** 0.5)
    assert under["products"] == 1200
    out = printed(capsys, "show", CIRCUIT, "--operands", counts, "--draw")
    assert "over 1,200 products" in out
    assert out.count("│") == 32
    for suffix, head in ((".png", b"\x89PNG"), (".svg", b"<svg ")):
        picture = tmp_path / f"map{suffix}"
        printed(capsys, "show", CIRCUIT, "--map", picture)
        assert picture.read_bytes().startswith(head)
    assert "unknown kind of picture '.gif'" in refused(
        capsys, "show", CIRCUIT, "--map", tmp_path / "m.gif"
    )
    assert "4-bit" in refused(capsys, "show", "drum(k=2, bits=4)", "--operands", counts)


def test_compare(counts, capsys):
    names = ("exact", CIRCUIT, "drum(k=4)")
    rows = told(capsys, "compare", *names, "--operands", counts)
    assert [row["name"] for row in rows] == [
        "exact(bits=8, signed=True)",
        "mul8s_1KVM@v2022",
        "drum(k=4, bits=8, signed=True)",
    ]
    assert rows[0]["under_operands"]["ep"] == 0
    assert rows[1]["relative_energy"] < 1
    assert rows[2]["relative_energy"] is None
    out = printed(capsys, "compare", *names)
    assert "mul8s_1KVM@v2022" in out
    assert "there" not in out
    assert "floating-point" in refused(capsys, "compare", "l_mul(format=bf16)")


def test_import_stores_what_reads_back(capsys, tmp_path):
    source = tmp_path / "mine.v"
    source.write_text(dv.multiplier(CIRCUIT).to_verilog("mine"), encoding="utf-8")
    for suffix in (".npy", ".v", *((".c",) if shutil.which("cc") else ())):
        out = tmp_path / f"stored{suffix}"
        facts = told(capsys, "import", source, "--check", CIRCUIT, "--out", out)
        assert facts["checked_against"] == CIRCUIT
        assert facts["use"] == f"dv.multiplier({str(out)!r})"
        assert facts["cost"]["source"].startswith("estimated: ")
        dv.multiplier(out, check=CIRCUIT)
    assert "Equal to mul8s_1KVM" in printed(capsys, "import", source, "--check", CIRCUIT)
    assert "differs from" in refused(capsys, "import", source, "--check", "mul8s_1KV9")
    assert "unknown kind of file '.txt'" in refused(
        capsys, "import", source, "--out", tmp_path / "x.txt"
    )


def test_an_unsigned_table_says_how_it_is_read(capsys, tmp_path):
    source = tmp_path / "mine.npy"
    np.save(source, np.outer(np.arange(16), np.arange(16)))
    facts = told(capsys, "import", source, "--unsigned", "--out", tmp_path / "again.npy")
    assert facts["use"].endswith("again.npy', signed=False)")
    assert facts["errors"]["wce"] == 0


def test_fit(capsys, tmp_path):
    source = tmp_path / "mine.npy"
    np.save(source, dv.multiplier("truncate", bits=5, drop_first=2).table().numpy())
    fits = told(capsys, "fit", source)["fits"]
    assert fits[0]["exact"]
    assert fits[0]["spelling"].startswith("truncate(bits=5, drop_first=2")
    assert "It is truncate(bits=5" in printed(capsys, "fit", source)
    noise = np.random.default_rng(0).integers(0, 2, (16, 16))
    np.save(source, dv.multiplier("exact", bits=4).table().numpy() + noise)
    found = told(capsys, "fit", source, "--most", 3)["fits"]
    assert len(found) == 3
    assert not found[0]["exact"]
    assert found[0]["worst"] <= 1
    assert "the file itself stays" in printed(capsys, "fit", source)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_design_writes_what_reads_back(counts, capsys, tmp_path):
    arguments = ("--operands", counts, "--cost", 0.3, "--restarts", 0, "--out", tmp_path)
    found = told(capsys, "design", *arguments, "--name", "mine")
    m = dv.multiplier(found["design"]["name"])
    assert found["design"]["share"] <= 0.3
    assert all(found["design"]["rms"] <= row["rms"] for row in found["uniform"])
    assert len(found["files"]) == 3
    for suffix in (".v", ".c", ".hex"):
        dv.multiplier(tmp_path / f"mine{suffix}", check=m)
    assert "mine dut" in (tmp_path / "mine_tb.v").read_text()


def test_design_of_small_arrays(capsys):
    out = printed(capsys, "design", "--bits", "3", "--unsigned", "--cost", "0.5")
    assert "array(mask=0x1f2, bits=3, signed=False)" in out
    assert "this design" in out
    assert "give a share" in refused(capsys, "design", "--cost", "2")
    assert "unknown objective" in refused(capsys, "design", "--objective", "mae")
    assert "no folder" in refused(capsys, "design", "--bits", "3", "--out", "/nowhere/at/all")


def test_operands_that_are_none(capsys, tmp_path):
    assert "no file" in refused(capsys, "compare", "exact", "--operands", tmp_path / "no.npz")
    assert "holds no recipe.yaml" in refused(capsys, "compare", "exact", "--operands", tmp_path)
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    err = refused(capsys, "compare", "exact", "--operands", tmp_path / "x.npz")
    assert "have the arrays first, second, depth, signed" in err


def test_operands_of_an_experiment(capsys, tmp_path):
    file = tmp_path / "digits.yaml"
    file.write_text(
        "dovetail: 1\nmodel: {builtin: digits-cnn}\ndata: {builtin: digits}\n"
        "rules: [{match: '*', input: int8, weight: int8}]\n"
    )
    rows = told(capsys, "compare", CIRCUIT, "--operands", file, "--layer", "conv*")
    assert rows[0]["under_operands"]["products"] == 64 * (268416 - 640)
    err = refused(capsys, "compare", CIRCUIT, "--operands", file, "--layer", "dense")
    assert "no layer 'dense' multiplies codes; those are conv1" in err
