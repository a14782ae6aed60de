from __future__ import annotations

import pytest

import dovetail as dv
from dovetail._optional import optional
from dovetail.errors import unknown


def test_one_exception_type_that_is_a_value_error():
    assert issubclass(dv.DovetailError, ValueError)


def test_the_nearest_choice_and_all_of_a_few():
    error = unknown("colour", "gren", ["red", "green"])
    assert str(error) == "unknown colour 'gren'; did you mean 'green'? Known: green, red"


def test_nothing_near():
    assert str(unknown("colour", "xyz", ["red"])) == "unknown colour 'xyz'. Known: red"
    assert str(unknown("colour", "xyz", [])) == "unknown colour 'xyz'. Known: none"


def test_many_choices_are_cut_off_and_counted():
    text = str(unknown("number", "n7", [f"n{i}" for i in range(30)]))
    assert text.endswith("... (30 in all)")
    assert "did you mean 'n7'?" in text
    assert "Known: n7, " in text  # the nearest first


def test_an_absent_package_says_how_to_install_it():
    with pytest.raises(dv.DovetailError, match=r'needs .absent_pkg.: pip install "dovetail\[hf\]"'):
        optional("absent_pkg.part", extra="hf")


def test_an_error_inside_an_optional_package_is_its_own(tmp_path, monkeypatch):
    (tmp_path / "broken_pkg.py").write_text("import also_absent_pkg")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="also_absent_pkg"):
        optional("broken_pkg", extra="hf")
