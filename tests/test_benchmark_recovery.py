"""The table of what is won back: its journal goes on, and its cases are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.recovery import cases, table
from benchmarks.recovery.journal import Journal
from benchmarks.recovery.networks import NETWORKS

import dovetail as dv


def test_the_journal_goes_on_after_a_row_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.csv"
    first = Journal(path)
    first.add(("digits CNN", "int4", "before", 0), 97.25)
    first.add(("digits CNN", "int4", "rotate", 0), "nothing, to rotate")
    assert Journal(path).rows == first.rows
    path.write_text(path.read_text() + "digits CNN,int4,fit s")
    assert Journal(path).rows == first.rows


def test_the_page_has_means_with_intervals_and_what_was_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.csv")
    for seed, value in enumerate([97.0, 98.0, 99.0]):
        journal.add(("digits CNN", "mul8s_1L2N", "fit ste", seed), value)
    journal.add(("digits CNN", "mul8s_1L2N", "rotate", 0), "nothing to rotate")
    page = table.markdown(journal)
    journal.add(("digits CNN", "mul8s_1L2N", "before", 0), 31.5)
    for seed, value in enumerate([98.0, 98.5, 99.5]):
        journal.add(("digits CNN", "mul8s_1L2N", "fit lut1d", seed), value)
    page = table.markdown(journal)
    assert "| `mul8s_1L2N` | 31.5 (1) | 98.0 ± 2.5 | 98.7 ± 1.9 |" in page
    assert "| `mul8s_1L2N` | +0.67 ± 0.72 |" in page
    assert "- `rotate`: nothing to rotate" in page
    assert "transformer" not in page


def test_the_cases_are_dovetails() -> None:
    found = [dv.multiplier(name).errors().mae for name in cases.MULTIPLIERS]
    assert len(found) >= 6
    assert all(mae > 0 for mae in found)
    recipes = (*cases.RECIPES, *cases.CORRECTIONS, "tune_functions")
    assert all(callable(getattr(dv, name)) for name in recipes)
    assert all(cases.asked(a, "before") for n in NETWORKS for a in cases.arithmetics(n))
    assert not cases.asked("int4", "control_variate")
    assert not cases.asked("mul8s_1L2N", cases.LEARNED)
    assert all(str(dv.gradient(name)) == name for name in cases.GRADIENTS)


@pytest.mark.parametrize(
    "method", ["correct_bias", pytest.param("fit lut2d", marks=pytest.mark.slow)]
)
def test_a_case_repeats(method: str) -> None:
    network = NETWORKS["digits CNN"]
    torch.manual_seed(0)
    model = network.finished(network.build().eval())
    data = network.data(True)
    runs = [cases.measured(network, model, data, "mul8s_1L2N", method, seed=0) for _ in range(2)]
    assert runs[0] == runs[1]
    assert isinstance(runs[0], float)
