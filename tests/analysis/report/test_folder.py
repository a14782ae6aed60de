"""A report drawn again from its folder, and its figures as files."""

from __future__ import annotations

import csv
import json
import shutil
from typing import Any

import pytest

from dovetail.analysis.report import Contents, page, read, save_figures
from dovetail.analysis.report.paper import layers_tex
from dovetail.cli.main import main
from dovetail.errors import DovetailError
from report_contents import attribution, front, search


@pytest.fixture
def copy(folder, result, tmp_path):
    return shutil.copytree(folder, tmp_path / "digits")


def test_the_page_is_drawn_again_to_the_last_byte(copy) -> None:
    before = (copy / "report.html").read_bytes()
    (copy / "report.html").unlink()
    assert main(["report", str(copy)]) == 0
    assert (copy / "report.html").read_bytes() == before


def test_sections_are_there_when_their_data_are(copy, numbers, capsys) -> None:
    headings = {
        "Layer by layer": {"run": numbers},
        "Cost": {"run": numbers},
        "Which source of error costs what": {"attribution": attribution()},
        "Operands": {"attribution": attribution()},
        "Designs": {"search": search()},
    }
    for heading, parts in headings.items():
        html = page(Contents(**parts))
        shown = {name for name in headings if f"<h2>{name}</h2>" in html}
        assert shown == {name for name, other in headings.items() if other.keys() == parts.keys()}
        assert heading in shown
    (copy / "attribution.json").write_text(json.dumps(same(numbers)))
    (copy / "search.json").write_text(json.dumps(front()))
    assert main(["report", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == [str(copy / "report.html")]
    html = (copy / "report.html").read_text()
    assert "Which source of error costs what" in html
    assert "Layer by layer" in html
    assert "<h2>Designs</h2>" in html
    assert len(html) < 1_000_000


def same(numbers: Any) -> dict[str, Any]:
    """The made-up attribution with the accuracies of the run."""
    first, *_, last = (stage["accuracy"]["value"] for stage in numbers["stages"])
    return attribution() | {"exact_metric": first, "emulated_metric": last}


def test_numbers_of_two_experiments_are_not_joined(copy) -> None:
    (copy / "attribution.json").write_text(json.dumps(attribution(("conv1", "elsewhere"))))
    with pytest.raises(DovetailError, match="the first speaks of 'elsewhere', which the"):
        read(copy)
    (copy / "attribution.json").write_text(json.dumps(attribution() | {"exact_metric": 0.5}))
    with pytest.raises(DovetailError, match=r"the first has the accuracy 0\.5, which no stage of"):
        read(copy)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_broken_file_is_refused_by_name(tmp_path, text: str, capsys) -> None:
    (tmp_path / "report.json").write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    assert "report.json" in capsys.readouterr().err


def test_figures_for_papers(copy, numbers, capsys) -> None:
    (copy / "attribution.json").write_text(json.dumps(same(numbers)))
    assert main(["report", str(copy), "--figures", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    names = sorted(path.removeprefix(f"{copy}/figures/") for path in written[1:])
    assert names == sorted(
        ["attribution-disabled.svg", "attribution-sqnr.svg", "attribution.csv", "attribution.svg"]
        + ["energy.csv", "energy.svg", "layers.csv", "layers.svg"]
        + [
            f"operand-{op}-input.svg"
            for op in ("conv1", "conv2", "conv3", "conv4", "conv5", "head")
        ]
        + ["layers.tex", "stages.csv"]
    )
    with (copy / "figures" / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(r["isolated_db"]) for r in rows] == [
        r["isolated_db"] for r in numbers["layers"]["rows"]
    ]
    tex = (copy / "figures" / "layers.tex").read_text()
    assert tex.count(r"\\") == 8
    assert r"mul8s\_1L2N@v2022" in tex
    row = numbers["layers"]["rows"][0] | {"key": "a_<b>|{c}%"}
    tex = layers_tex({"layers": {**numbers["layers"], "rows": [row]}})
    assert r"a\_$<$b$>$$|$\{c\}\% &" in tex


def test_designs_and_pictures_are_written_too(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    written = save_figures(Contents(search=search()), tmp_path, ("png", "pdf"))
    assert sorted(p.name for p in written) == [
        "designs.csv",
        "pareto-energy.pdf",
        "pareto-energy.png",
    ]
    rows = (tmp_path / "designs.csv").read_text().splitlines()
    assert rows[0] == "trial,front,feasible,accuracy,energy,conv1.mul"
    assert rows[1] == "0,True,True,0.5,0.2,mul8s_1L2N"
    with pytest.raises(DovetailError, match="unknown kind of figure 'jpg'"):
        save_figures(Contents(search=search()), tmp_path, ("jpg",))
