"""The report of a real run: complete, self-contained, escaped, and the same numbers as its JSON."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import math
import re
from pathlib import Path

import pytest
import yaml

from dovetail.analysis import report
from dovetail.analysis.metrics import wilson
from dovetail.analysis.report import words
from dovetail.errors import DovetailError
from dovetail.experiment import RunResult, run
from report_contents import attribution, histogram

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits.yaml"


class Page(html.parser.HTMLParser):
    """Every tag, attribute and piece of text; complains about tags that do not close."""

    VOID = frozenset({"meta", "link", "img", "br", "stop", "input", "hr"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def source(result: RunResult, folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_is_small_and_asks_for_nothing_from_outside(source: str) -> None:
    page = Page(source)
    assert len(source.encode()) < 1_000_000
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("script") == 1
    for name, value in page.attributes:
        if name in {"src", "href"}:
            assert (value or "").startswith("data:")
    assert "url(" not in source.replace("url(#", "")
    assert "@import" not in source


def test_the_page_shows_every_stage_layer_and_multiplier(source: str, result: RunResult) -> None:
    page = Page(source)
    for stage in result.stages:
        assert stage.name in page.text
        assert f"{100 * stage.accuracy.value:.1f} %" in page.text
    for row in result.layers:
        assert row.key in page.text
        assert row.rule in page.text
    assert page.tags.count("image") == 2  # the exact one of `head` has no error to show
    assert "mul8s_1L2N@v2022" in page.text
    assert "mul8s_1KX5@v2022" in page.text
    assert result.resolved.strip() in page.text
    for name, version in report.versions().items():
        assert f"{name} {version}" in page.text


def test_json_and_recipe_hold_the_same_run(folder: Path, result: RunResult) -> None:
    numbers = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert numbers["stages"][0]["sqnr_db"] == "inf"
    assert [s["accuracy"]["value"] for s in numbers["stages"]] == [
        s.accuracy.value for s in result.stages
    ]
    assert numbers["versions"] == report.versions()
    assert numbers["command"].startswith("dovetail run ")
    assert (folder / "recipe.yaml").read_text(encoding="utf-8") == result.resolved
    assert yaml.safe_load(result.resolved)["dovetail"] == 1


def test_the_example_breaks_the_network_and_retraining_mends_it(result: RunResult) -> None:
    fp32, exact, approximate, retrained = (stage.accuracy for stage in result.stages)
    assert exact.low <= fp32.value <= exact.high
    assert approximate.high < fp32.low - 0.2
    assert retrained.low > 0.95
    assert result.missed == ()


def test_the_same_run_writes_the_same_bytes(folder: Path, result: RunResult) -> None:
    before = (folder / "report.html").read_bytes(), (folder / "report.json").read_bytes()
    run(EXAMPLE, out=folder)
    assert ((folder / "report.html").read_bytes(), (folder / "report.json").read_bytes()) == before


def test_everything_is_escaped(result: RunResult, tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>&\"'"
    stage = dataclasses.replace(result.stages[0], name=evil)
    rows = tuple(dataclasses.replace(row, key=evil, rule=evil) for row in result.layers)
    bad = dataclasses.replace(
        result,
        model=evil,
        data=evil,
        source=evil,
        resolved=evil,
        missed=(evil,),
        stages=(stage, *result.stages[1:]),
        layers=dataclasses.replace(result.layers, rows=rows),
    )
    source = (report.write(tmp_path, bad, command=evil) / "report.html").read_text("utf-8")
    page = Page(source)
    assert page.tags.count("script") == 1
    assert page.text.count(evil) >= 8


def test_values_at_the_ends_are_shown_not_hidden(result: RunResult, tmp_path: Path) -> None:
    rows = [
        dataclasses.replace(row, isolated_db=a, accumulated_db=b, changed=None, energy=None)
        for row, (a, b) in zip(
            result.layers,
            [(math.inf, -math.inf), (math.nan, None), (-12.5, 3.0)],
            strict=False,
        )
    ]
    odd = dataclasses.replace(
        result, layers=dataclasses.replace(result.layers, rows=tuple(rows)), fit=None
    )
    text = Page((report.write(tmp_path, odd, command="x") / "report.html").read_text("utf-8")).text
    for shown in ("∞", "−∞", "n/a", "−12.5", "3.0"):
        assert shown in text
    widths = [float(w) for w in re.findall(r"(?:width|left):(-?[\d.]+)%", _html(tmp_path))]
    assert widths
    assert all(0 <= w <= 100 for w in widths)


def _html(folder: Path) -> str:
    return (folder / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("hits", "fitted", "headline"),
    [
        ([90], False, "90.0 % accurate"),
        ([90, 80], False, "From 90.0 % to 80.0 %"),
        ([90, 90], False, "90.0 %, before and after"),
        ([90, 50, 85], True, "From 90.0 % to 50.0 %, and back to 85.0 %"),
        ([90, 50, 40], True, "From 90.0 % to 50.0 %, and retrained to 40.0 %"),
    ],
)
def test_headline(result: RunResult, hits: list[int], fitted: bool, headline: str) -> None:
    stages = tuple(dataclasses.replace(result.stages[0], accuracy=wilson(hit, 100)) for hit in hits)
    told = dataclasses.replace(result, stages=stages, fit=result.fit if fitted else None)
    assert words.headline(report.Contents(run=report.numbers_of(told))) == headline


def test_without_jinja_the_message_says_what_to_install(
    result: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(DovetailError, match=r"dovetail\[report\]"):
        report.write(tmp_path / "new", result, command="x")
    assert not (tmp_path / "new").exists()


def test_a_page_of_60_layers_stays_below_3_megabytes(numbers: dict[str, object]) -> None:
    """With every source, and four operands each; what is not cast is folded away."""
    ops = tuple(f"encoder.layers.{i}.<b>&query" for i in range(61))
    found = attribution(ops)
    found["histograms"] = {
        op: {
            **{slot: histogram(op, slot, "int8", 2.5) for slot in ("input", "weight", "output")},
            "bias": histogram(op, "bias", None, None),
        }
        for op in ops
    }
    text = report.page(report.Contents(run=numbers, attribution=found))
    assert len(text.encode()) < 3_000_000
    assert text.count('aria-label="values of') == 4 * 61
    assert "220 more, what is not cast among them" in text
    assert text.index("query bias") > text.index("220 more")
    assert "<b>&query" not in text
