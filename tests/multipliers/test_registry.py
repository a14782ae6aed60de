"""`multiplier`: one entry for every description, and the extension point."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

import dovetail.multipliers as dm
from dovetail import _plugins
from dovetail.errors import DovetailError
from dovetail.multipliers import registry


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))


@dataclass(frozen=True, eq=False, repr=False)
class Shifted(dm.Multiplier):
    shift: int
    bits: tuple[int, int] = (8, 8)
    signed: bool = True

    def __repr__(self):
        return f"shifted(shift={self.shift})"

    def _product(self, first, second):
        return first * second >> self.shift << self.shift


def test_a_registered_family_is_like_a_built_in_one():
    dm.register_multiplier("shifted")(Shifted)
    m = dm.multiplier("shifted(shift=2)")
    assert m(3, 3) == 8
    assert m == dm.multiplier("shifted", shift=2) == dm.multiplier(repr(m))
    assert m.name == "shifted"
    assert m.max_abs == 16384
    assert m.errors().wce == 3
    assert "shifted" in dm.families()
    with pytest.raises(DovetailError, match=r"parameters: \(shift, bits=\(8, 8\), signed=True\)"):
        dm.multiplier("shifted(by=2)")


def test_registering_badly():
    with pytest.raises(DovetailError, match="'drum' exists already"):
        dm.register_multiplier("drum")(Shifted)
    for name in ("two words", "table", "f(x)"):
        with pytest.raises(DovetailError, match="cannot name a multiplier family"):
            dm.register_multiplier(name)(Shifted)
    dm.register_multiplier("broken")(lambda: 3)
    with pytest.raises(DovetailError, match="made 3, which is not a Multiplier"):
        dm.multiplier("broken")


def test_plugins_load_when_a_name_is_unknown(tmp_path, monkeypatch):
    package = tmp_path / "plugged-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[dovetail.plugins]\nplugged = plugged_module\n")
    (tmp_path / "plugged_module.py").write_text(
        "from dovetail.multipliers import multiplier, register_multiplier\n"
        "@register_multiplier('plugged')\n"
        "def plugged(bits=4):\n    return multiplier(lambda a, w: a * w + 1, bits=bits)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    _plugins.load_plugins.cache_clear()
    try:
        dm.multiplier("drum")
        assert "plugged_module" not in sys.modules
        assert dm.multiplier("plugged(bits=3)")(1, 1) == 2
    finally:
        _plugins.load_plugins.cache_clear()
        sys.modules.pop("plugged_module", None)


def test_a_multiplier_is_itself():
    m = dm.multiplier("drum")
    assert dm.multiplier(m) is m
    with pytest.raises(DovetailError, match="takes no k="):
        dm.multiplier(m, k=3)


def test_other_things_are_refused():
    with pytest.raises(DovetailError, match="8 is no multiplier; give a name"):
        dm.multiplier(8)
    with pytest.raises(DovetailError, match="k is given in the text and beside it"):
        dm.multiplier("drum(k=3)", k=4)
    with pytest.raises(DovetailError, match="give a table as the object itself"):
        dm.multiplier("table(bits=8)")


def test_exact_adapts_and_others_refuse_to():
    exact = dm.multiplier("exact")
    assert exact.bits is None
    assert exact(10**6, 10**6) == 10**12
    assert exact.table().shape == (256, 256)
    assert exact.bind(8, signed=False) == dm.multiplier("exact(bits=8, signed=False)")
    assert exact.bind((8, 4), signed=True).max_abs == 128 * 8
    with pytest.raises(DovetailError, match="no largest product until its width is known"):
        _ = exact.max_abs
    m = dm.multiplier("mul8s_1KV9")
    assert m.bind(8, signed=True) is m
    with pytest.raises(DovetailError, match="multiplies signed 8-bit operands, not unsigned 4-bit"):
        m.bind(4, signed=False)
