"""The page in a browser, wide and narrow: no error, nothing cut off, tables that sort, figures."""

from __future__ import annotations

from typing import Any

import pytest

from browser import look
from dovetail.analysis.report import Contents, page
from report_contents import attribution, search

SEE = """
const d = w.document;
const column = (table, i) => [...d.querySelectorAll(`#${table} tbody tr`)]
  .map((row) => row.cells[i].textContent.trim());
const click = (table, i) =>
  d.querySelectorAll(`#${table} thead th`)[i].querySelector("button").click();
d.querySelectorAll("details").forEach((part) => { part.open = true; });
const before = column("attribution", 4);
click("attribution", 4);
const rising = column("attribution", 4);
const said = d.querySelectorAll("#attribution th")[4].getAttribute("aria-sort");
click("attribution", 4);
const falling = column("attribution", 4);
click("designs", 0);
const designs = column("designs", 0);
const dot = [...d.querySelectorAll("svg circle")].find((one) => one.getClientRects().length);
const pointer = new w.PointerEvent("pointermove", { bubbles: true, clientX: 380, clientY: 5 });
dot.dispatchEvent(pointer);
const tip = d.getElementById("tip");
const box = tip.getBoundingClientRect();
const shown = [...d.querySelectorAll("main svg")].filter((one) => one.getClientRects().length);
const cut = shown.filter((svg) => [...svg.querySelectorAll("text")].some((text) => {
  const a = svg.getBoundingClientRect(), b = text.getBoundingClientRect();
  const across = b.left >= a.left - 1 && b.right <= a.right + 1;
  return !across || b.top < a.top - 1 || b.bottom > a.bottom + 1;
})).map((svg) => svg.getAttribute("aria-label"));
return {
  wrong: w.wrong, before, rising, falling, said, designs, cut,
  overflow: d.documentElement.scrollWidth - d.documentElement.clientWidth,
  tip: tip.hidden ? null : tip.textContent, inside: box.left >= 0 && box.right <= w.innerWidth,
  figures: shown.map((svg) => svg.getAttribute("aria-label")),
  requests: w.performance.getEntriesByType("resource").map((one) => one.name),
};
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    names = ("conv1", "a.very.long.path.to.the.layers.10.attention.query", "head")
    contents = Contents(attribution=attribution(names), search=search())
    return look(page(contents), SEE, tmp_path_factory.mktemp("browser"))


def test_nothing_goes_wrong_and_nothing_is_asked_for(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        assert one["wrong"] == []
        assert one["requests"] == []


def test_nothing_is_wider_than_the_page(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        assert one["overflow"] <= 0
        assert one["cut"] == []


def test_tables_sort_by_the_column_that_is_clicked(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        numbers = [float(text.replace("−", "-").replace("∞", "inf")) for text in one["rising"]]
        assert numbers == sorted(numbers)
        assert one["falling"] != one["rising"]
        assert sorted(one["before"]) == sorted(one["rising"])
        assert one["before"] != one["rising"]
        assert one["said"] == "ascending"
        assert one["designs"] == [str(i) for i in range(8)]


def test_every_figure_is_there_once(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        starts = [label.split(" of ")[0] for label in one["figures"]]
        assert starts[:3] == ["change", "change", "SQNR in dB"]
        assert starts[3:6] == ["values"] * 3
        assert one["figures"][6:] == [
            "accuracy against energy of 8 designs, 4 of them on the front"
        ]


def test_what_is_pointed_at_is_told_inside_the_page(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        assert one["tip"].startswith("trial 1\naccuracy 0.45\nenergy 0.3\nconv1.mul: mul8s_1L2N")
        assert one["inside"]


def test_a_whole_run_in_a_browser(tmp_path, numbers) -> None:
    """The page of a real run, multipliers and all."""
    script = """const d = w.document; return {
      wrong: w.wrong, overflow: d.documentElement.scrollWidth - d.documentElement.clientWidth,
      layers: d.querySelectorAll("#layers tbody tr").length,
      images: d.querySelectorAll("image").length};"""
    for one in look(page(Contents(run=numbers)), script, tmp_path):
        assert one == {"wrong": [], "overflow": 0, "layers": 6, "images": 2}
