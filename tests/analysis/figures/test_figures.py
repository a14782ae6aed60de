"""Figures: valid SVG in which every value has its mark, and the same as PNG."""

from __future__ import annotations

import io
import itertools
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from dovetail.analysis.figures import (
    Design,
    Drawing,
    change_map,
    energy_bars,
    fit_curve,
    histogram,
    layer_bars,
    noise_map,
    pareto,
    save_picture,
)
from dovetail.analysis.figures.drawing import COLOURS, Area, Box, Dot, Line, Words
from dovetail.analysis.figures.histogram import grid
from dovetail.analysis.figures.scale import Scale, labelled, short, ticks
from report_contents import OPS, attribution, search
from report_contents import histogram as found

POWER = {"key": "a", "multiply_pj": 30.0, "accumulate_pj": 10.0, "memory_pj": 60.0}
ROW = {"key": "conv1", "isolated_db": 30.0, "accumulated_db": 10.0}


def drawings() -> dict[str, Drawing]:
    designs = search()
    fit = {"losses": [1.0, "nan", 0.25], "metrics": [0.5, 0.75, 0.7, 0.8]}
    odd = {"key": "<odd>", "isolated_db": "inf", "accumulated_db": None}
    under = {"key": "x", "isolated_db": -5.0, "accumulated_db": "-inf"}
    return {
        "change": change_map(attribution()),
        "noise": noise_map(attribution(), 330),
        "histogram": histogram(found("conv1", "input", "int8", 2.5)),
        "far": histogram(found("conv1", "input", "fp8_e4m3fn", 448.0)),
        "exact": histogram(found("conv1", "input", None, None)),
        "bare": histogram(found("conv1", "input", "int8", 2.5), bare=True),
        "layers": layer_bars([ROW, odd, under]),
        "none": layer_bars([]),
        "pareto": pareto(designs.designs, designs.directions),
        "empty": pareto([], designs.directions),
        "single": pareto(designs.designs, {"accuracy": "max"}),
        "energy": energy_bars({"rows": [POWER, POWER | {"memory_pj": None, "key": "b"}]}),
        "fit": fit_curve(fit),
    }


@pytest.mark.parametrize("name", drawings())
@pytest.mark.parametrize("inline", [False, True])
def test_svg_is_well_formed_and_finite(name: str, inline: bool) -> None:
    text = drawings()[name].svg(inline=inline)
    root = ET.fromstring(text)
    assert root.get("aria-label")
    assert "nan" not in re.sub(r">[^<]*<", "><", text)
    assert "inf" not in re.sub(r">[^<]*<", "><", text).replace("font-family", "")
    assert ("var(--" in text) == inline
    assert not re.search(r"https?://(?!www.w3.org/2000/svg)", text)


def test_a_cell_is_as_full_as_its_change_is_large() -> None:
    drawing = change_map(attribution())
    cells = [mark for mark in drawing.marks if isinstance(mark, Box) and mark.tip]
    told = {mark.tip.splitlines()[0]: mark for mark in cells}
    assert len(told) == 30
    assert told["conv2: together"].tip == (
        "conv2: together\nchange alone −0.2, 95 % −0.21 to −0.19\nmade exact +0.1"
    )
    assert told["conv2: together"].opacity == max(mark.opacity for mark in cells)
    worst = told["head: mul mul8s_1L2N@v2022"]
    assert worst.fill == "orange"
    assert worst.opacity == max(told[f"{op}: mul mul8s_1L2N@v2022"].opacity for op in OPS)
    assert "change alone −0.15, 95 % −0.16 to −0.14\nmade exact +0.075" in worst.tip
    assert told["conv1: input int8"].fill == "blue"
    assert told["conv3: acc int32"].opacity == 0
    words = [mark.text for mark in drawing.marks if isinstance(mark, Words)]
    assert "−15" in words  # percentage points of accuracy


def test_what_is_made_exact_has_a_map_of_its_own() -> None:
    cells = change_map(attribution(), disabled=True).marks
    told = {m.tip.splitlines()[0]: m for m in cells if isinstance(m, Box) and m.tip}
    best = told["conv2: together"]
    assert (best.fill, best.opacity) == (
        "blue",
        max(m.opacity for m in told.values() if m.fill != "track"),
    )
    assert "made exact (with mul) −0.005" in told["head: input int8"].tip
    assert told["conv3: acc int32"].fill == "track"


def test_what_harms_depends_on_the_metric() -> None:
    loss = attribution() | {"metric": "loss", "higher_is_better": False}
    cells = {
        m.tip.splitlines()[0]: m for m in change_map(loss).marks if isinstance(m, Box) and m.tip
    }
    assert cells["head: mul mul8s_1L2N@v2022"].fill == "blue"
    assert cells["conv1: input int8"].fill == "orange"


def test_counts_outside_the_range_are_orange() -> None:
    given = found("conv1", "input", "int8", 2.5)
    bars = [m for m in histogram(given).marks if isinstance(m, Box) and "%" in m.tip]
    outside = [count for count, a in zip(given["counts"], given["edges"], strict=False)
               if count and not -2.5 <= a + 0.055 <= 2.5]  # fmt: skip
    assert sum(bar.fill == "orange" for bar in bars) == len(outside) > 0
    assert len(bars) == sum(count > 0 for count in given["counts"])


def test_ends_are_told_in_words_and_near_ones_drawn() -> None:
    far = drawings()["far"].marks
    assert "fp8_e4m3fn, −448 to 448" in [m.text for m in far if isinstance(m, Words)]
    assert not [m for m in far if isinstance(m, Line) and m.dashed]
    dashed = [m for m in drawings()["histogram"].marks if isinstance(m, Line) and m.dashed]
    assert len(dashed) == 2


def test_the_grid_is_that_of_the_format() -> None:
    assert grid("int8", -2.54, 2.54)[:2] == [-2.54, pytest.approx(-2.52)]
    assert len(grid("int8", -1.0, 1.0)) == 255
    assert grid("fp4_e2m1fn", -6.0, 6.0) == sorted(
        s * v for s in (-1, 1) for v in (0, 0.5, 1, 1.5, 2, 3, 4, 6) if v or s > 0
    )
    assert list(grid("no-such-format", 0.0, 1.0)) == []


def test_the_front_is_joined_in_order() -> None:
    drawing = drawings()["pareto"]
    (front,) = [m for m in drawing.marks if isinstance(m, Line) and m.stroke == "blue"]
    dots = [m for m in drawing.marks if isinstance(m, Dot)]
    assert [d.hollow for d in sorted(dots, key=lambda d: d.x)] == [False, True] + [False] * 6
    corners = [(d.x, d.y) for d in sorted(dots, key=lambda d: d.x) if d.fill == "blue"]
    assert list(front.points[::2]) == corners
    for (x, before), corner, (after, y) in zip(
        front.points[::2], front.points[1::2], front.points[2::2], strict=False
    ):
        assert corner == (after, before)
        assert x < after
        assert y < before


@pytest.mark.parametrize("ways", list(itertools.product(("max", "min"), repeat=2)))
def test_steps_lie_on_the_border_of_what_the_front_beats(ways: tuple[str, str]) -> None:
    wanted = dict(zip(("up", "along"), ways, strict=True))
    signs = {name: -1 if way == "max" else 1 for name, way in wanted.items()}
    # losses (1, 3), (2, 2), (4, 1); and one that only a third objective puts on the front
    losses = [(1, 3), (2, 2), (4, 1), (4, 3)]
    designs = [
        Design(i, {"up": signs["up"] * b, "along": signs["along"] * a})
        for i, (a, b) in enumerate(losses)
    ]
    drawing = pareto(designs, wanted)
    (line,) = [m for m in drawing.marks if isinstance(m, Line) and m.stroke == "blue"]
    places = {int(m.tip.split()[1].rstrip(",")): m for m in drawing.marks if isinstance(m, Dot)}
    corners = {(places[b].x, places[a].y) for a, b in ((0, 1), (1, 2))}
    points = {(places[i].x, places[i].y) for i in range(3)}
    assert set(line.points) == corners | points
    assert [x for x, _ in line.points] == sorted(x for x, _ in line.points)


def test_the_picture_says_what_its_dots_mean() -> None:
    designs = [Design(0, {"a": 1.0, "b": 2.0}), Design(1, {"a": 0.0, "b": 2.0}, {}, False, False)]
    words = [
        m.text for m in pareto(designs, {"a": "max", "b": "min"}).marks if isinstance(m, Words)
    ]
    assert "blue: on the front, hollow: misses a constraint" in words


@pytest.mark.parametrize(
    ("low", "high"), [(0.9874, 0.9903), (4762e3, 5154e3), (1e-9, 1.01e-9), (99990.0, 100010.0)]
)
def test_labels_tell_ticks_apart(low: float, high: float) -> None:
    words = [label for _, label in labelled(low, high)]
    assert len(set(words)) == len(words) > 2


def test_a_bar_is_as_long_as_the_energy_that_is_known() -> None:
    bars = [m for m in drawings()["energy"].marks if isinstance(m, Box) and "pJ" in m.tip]
    lengths = {bar.tip: bar.width for bar in bars}
    assert lengths["a, memory: 60 pJ"] == pytest.approx(6 * lengths["a, accumulating: 10 pJ"])
    assert lengths["b, multiplying: 30 pJ"] == lengths["a, multiplying: 30 pJ"]
    words = [m.text for m in drawings()["energy"].marks if isinstance(m, Words)]
    assert "40 pJ + ?" in words
    assert "100 pJ" in words


def test_designs_without_a_value_are_left_out() -> None:
    designs = search()
    broken = Design(9, {"accuracy": math.nan, "energy": 1.0})
    drawing = pareto([*designs.designs[:3], broken], designs.directions)
    assert "of 3 designs" in drawing.label


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3.2, 47.0), (1e-9, 5e-9), (-1e12, 3e12), (2, 2)]
)
@pytest.mark.parametrize("most", [2, 3, 6])
def test_ticks_are_round_and_inside(low: float, high: float, most: int) -> None:
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most
    assert all(low - 1e-9 * abs(low) <= t <= high + 1e-9 * abs(high) for t in found)


def test_scales_and_short_numbers() -> None:
    assert Scale(2, 2, 10, 20)(2) == 10
    texts = [short(v) for v in (0, -0.00001, 12345, 999, 1e6, 2.5e9, -0.5)]
    assert texts == ["0", "−1.0e-05", "12.3k", "999", "1M", "2.5G", "−0.5"]


@pytest.mark.parametrize("name", ["change", "histogram", "pareto"])
def test_a_picture_shows_every_mark(tmp_path, name: str) -> None:
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    drawing = drawings()[name]
    path = tmp_path / "figure.png"
    save_picture(drawing, path, dpi=96)
    pixels = np.asarray(image.open(io.BytesIO(path.read_bytes())).convert("RGB")).astype(int)
    assert pixels.shape[:2] == (int(drawing.height), int(drawing.width))
    blue = [int(COLOURS["blue"][i : i + 2], 16) for i in (1, 3, 5)]
    for mark in drawing.marks:
        if isinstance(mark, Dot) and mark.fill == "blue":
            assert np.abs(pixels[int(mark.y), int(mark.x)] - blue).max() < 8
    again = tmp_path / "again.png"
    save_picture(drawing, again, dpi=96)
    assert again.read_bytes() == path.read_bytes()
    save_picture(drawing, tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_what_may_be_chance_is_pale_and_in_brackets() -> None:
    given = attribution()
    for row in (*given["rows"], *given["ops"]):
        if row["op"] == "conv2":
            row |= {"ci_low": -0.3, "ci_high": 0.001, "disabled_ci_low": 0, "disabled_ci_high": 1}
    for disabled in (False, True):
        marks = change_map(given, 900, disabled=disabled).marks
        told = {m.tip.splitlines()[0]: m for m in marks if isinstance(m, Box) and m.tip}
        changed = "conv2: mul mul8s_1L2N@v2022"
        assert told[changed].opacity <= 0.2 < told[changed.replace("conv2", "conv3")].opacity
        assert told["conv2: together"].opacity <= 0.2 < told["head: together"].opacity
        words = [m.text for m in marks if isinstance(m, Words)]
        prefix = "disabled_" if disabled else ""
        held = [
            row
            for row in (*given["rows"], *given["ops"])
            if row[f"{prefix}delta_metric"] and row[f"{prefix}ci_low"] is not None
            if row[f"{prefix}ci_low"] <= 0 <= row[f"{prefix}ci_high"]
        ]
        assert sum(text.startswith("(") for text in words) == len(held) >= 4


def test_counts_have_an_axis() -> None:
    drawing = histogram(found("conv1", "input", "int8", 2.5))
    lines = {m.text: m.y for m in drawing.marks if isinstance(m, Words) and m.size == 10}
    assert list(lines) == ["1", "10", "100", "1000"]
    bars = [m for m in drawing.marks if isinstance(m, Box) and ": 1 (" in m.tip]
    assert bars
    assert all(bar.y == pytest.approx(lines["1"] - 4) for bar in bars)
    assert histogram({**found("a", "b", None, None), "counts": [0], "edges": [0, 1]}).marks


def test_outlines_are_the_bars() -> None:
    """The same area, colour by colour, in a fifth of the text."""
    given = found("conv1", "input", "int8", 2.5)
    whole, bare = histogram(given), histogram(given, bare=True)

    def area(points: tuple[tuple[float, float], ...]) -> float:
        turned = zip(points, (*points[1:], points[0]), strict=True)
        return abs(sum(a * d - b * c for (a, b), (c, d) in turned)) / 2

    for colour in ("blue", "orange"):
        boxes = [m for m in whole.marks if isinstance(m, Box) and m.tip and m.fill == colour]
        areas = [m for m in bare.marks if isinstance(m, Area) and m.fill == colour]
        drawn = sum((m.width + 0.4) * m.height for m in boxes)
        assert sum(area(m.points) for m in areas) == pytest.approx(drawn)
        assert boxes
    assert len(bare.svg(inline=True)) < 0.5 * len(whole.svg(inline=True))


def test_a_format_of_many_ranges_says_so() -> None:
    form = "int4(channel=0)"
    given = found("conv1", "weight", form, None)
    words = [m.text for m in histogram(given).marks if isinstance(m, Words)]
    assert f"{form}, in several ranges" in words


def test_energies_have_one_unit_on_the_axis_and_beside_the_bars() -> None:
    rows = [{"key": "a", "multiply_pj": 3e6, "accumulate_pj": 1e6, "memory_pj": 0.0}]
    words = [m.text for m in energy_bars({"rows": rows}).marks if isinstance(m, Words)]
    assert {"µJ for one batch", "4 µJ", "2"} <= set(words)


def test_a_legend_fits_its_figure() -> None:
    designs = search()
    for width in (330.0, 680.0):
        drawing = pareto(designs.designs, designs.directions, width=width)
        legend = [
            m for m in drawing.marks if isinstance(m, Words) and m.anchor == "end" and m.size == 11
        ]
        assert all(6.4 * len(line.text) < width for line in legend)
        assert ", ".join(line.text for line in legend).count(":") == 3
