"""The report's figures as files for papers: SVG, CSV, LaTeX, and PNG and PDF by Matplotlib."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dovetail._files import write
from dovetail.analysis.figures import (
    Drawing,
    change_map,
    energy_bars,
    histogram,
    layer_bars,
    noise_map,
    pareto,
    save_picture,
)
from dovetail.analysis.report.contents import Contents
from dovetail.analysis.report.words import db, percent
from dovetail.errors import unknown

__all__ = ["KINDS", "save_figures"]

#: The kinds of file a figure can be written as; the data of each stand beside it as CSV.
KINDS = ("svg", "png", "pdf")


def save_figures(
    contents: Contents, folder: str | Path, kinds: Sequence[str] = KINDS
) -> list[Path]:
    """Write every figure of a report to ``folder``, its numbers as CSV, and the layers as LaTeX.

    PNG and PDF need Matplotlib: ``pip install "dovetail[plot]"``. Gives the files written.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of figure", kind, KINDS)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    written = []
    for name, drawing in _drawings(contents).items():
        for kind in kinds:
            path = place / f"{name}.{kind}"
            if kind == "svg":
                write({path: drawing.svg() + "\n"})
            else:
                save_picture(drawing, path)
            written.append(path)
    for name, rows in _tables(contents).items():
        written.append(_csv(place / f"{name}.csv", rows))
    if contents.run is not None:
        path = place / "layers.tex"
        write({path: layers_tex(contents.run)})
        written.append(path)
    return written


def _drawings(contents: Contents) -> dict[str, Drawing]:
    found: dict[str, Drawing] = {}
    if contents.run is not None:
        found["layers"] = layer_bars(contents.run["layers"]["rows"])
        if contents.run["cost"] is not None:
            found["energy"] = energy_bars(contents.run["cost"])
    if contents.attribution is not None:
        found["attribution"] = change_map(contents.attribution)
        if any(row["disabled_delta_metric"] is not None for row in contents.attribution["rows"]):
            found["attribution-disabled"] = change_map(contents.attribution, disabled=True)
        found["attribution-sqnr"] = noise_map(contents.attribution)
        for op, slots in contents.attribution["histograms"].items():
            for slot, one in slots.items():
                if one["counts"]:
                    found[f"operand-{_file_name(op)}-{slot}"] = histogram(one)
    if contents.search is not None:
        designs, directions = contents.search.designs, contents.search.directions
        _, *others = directions
        for name in others or ("trial",):
            found[f"pareto-{_file_name(name)}"] = pareto(designs, directions, along=name)
    return found


def _tables(contents: Contents) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    if contents.run is not None:
        found["layers"] = [dict(row) for row in contents.run["layers"]["rows"]]
        found["stages"] = [
            {**stage, **{f"accuracy_{k}": v for k, v in stage["accuracy"].items()}}
            for stage in contents.run["stages"]
        ]
        for row in found["stages"]:
            del row["accuracy"]
        if contents.run["cost"] is not None:
            found["energy"] = [
                {**row, "how": "; ".join(row["how"]), "missing": "; ".join(row["missing"])}
                for row in contents.run["cost"]["rows"]
            ]
    if contents.attribution is not None:
        found["attribution"] = [
            {**row, "with_sources": " ".join(row["with_sources"])}
            for row in contents.attribution["rows"]
        ]
    if contents.search is not None:
        found["designs"] = [
            {"trial": d.number, "front": d.front, "feasible": d.feasible, **d.values, **d.choices}
            for d in contents.search.designs
        ]
    return found


def _csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    write({path: out.getvalue()})
    return path


def layers_tex(run: Mapping[str, Any]) -> str:
    r"""The layers as a LaTeX table for the package ``booktabs``.

    >>> row = {"key": "fc_1", "arithmetic": "int8 × int8", "macs": 640, "changed": None,
    ...        "isolated_db": 40.12, "accumulated_db": "inf", "energy": 0.5}
    >>> run = {"layers": {"rows": [row], "total": row | {"output_db": 3.0}}}
    >>> print(layers_tex(run).splitlines()[3])
    fc\_1 & int8 $\times$ int8 & 640 & -- & 40.1 & $\infty$ & 50\,\% \\
    """
    head = ("Layer", "Arithmetic", "Products", "Changed", "SQNR alone", "SQNR so far", "Energy")
    total = run["layers"]["total"]
    shared = ("macs", "changed", "energy")
    last = {"key": "all", "arithmetic": "", "isolated_db": None}
    last |= {name: total[name] for name in shared} | {"accumulated_db": total["output_db"]}
    return "\n".join(
        [
            r"\begin{tabular}{llrrrrr}",
            r"\toprule",
            " & ".join(head) + r" \\ \midrule",
            *(_line(row) for row in run["layers"]["rows"]),
            r"\midrule",
            _line(last),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _line(row: Mapping[str, Any]) -> str:
    cells: Iterable[str] = (
        row["key"],
        row["arithmetic"],
        f"{row['macs']:,}",
        percent(row["changed"]),
        db(row["isolated_db"]),
        db(row["accumulated_db"]),
        percent(row["energy"], 0),
    )
    return " & ".join(_tex(cell) for cell in cells) + r" \\"


_TEX = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"${letter}$" for letter in "<>|"},
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "∞": r"$\infty$",
    "−": "$-$",
}


def _tex(text: str) -> str:
    if text == "n/a":
        return "--"
    return "".join(_TEX.get(letter, letter) for letter in text).replace(r" \%", r"\,\%")


def _file_name(text: str) -> str:
    """A part of a file's name that every file system takes."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in text)
