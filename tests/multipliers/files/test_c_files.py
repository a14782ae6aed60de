"""Multipliers from C functions and C headers, and the check of one against another."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

import dovetail.multipliers as dm
from dovetail.errors import DovetailError

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


SIGNED = """
#include <stdint.h>
/* int16_t not_me(int8_t a, int8_t b) { */
static int helper(int x) { return x & ~1; }
int16_t trunc1(int8_t A, int8_t B) { return (int16_t)(helper(A) * B); } // f
"""


@needs_cc
def test_c_signed(tmp_path):
    m = dm.multiplier(write(tmp_path, "trunc1.c", SIGNED), check="truncate(drop_first=1)")
    assert m.bits == (8, 8)
    assert m.signed
    assert m.name == "trunc1"
    assert np.array_equal(m.table(), dm.multiplier("truncate(drop_first=1)").table())
    assert len(list((tmp_path / "cache").rglob("*.so"))) == 1
    assert dm.multiplier(tmp_path / "trunc1.c") == m


@needs_cc
def test_c_unsigned_and_wide_types(tmp_path):
    source = """#include "low.h"
    uint16_t f(uint8_t a, uint8_t b) { return a * b; }
    uint64_t mul8u_TEST(const uint64_t B, const uint64_t A) { return (B & LOW) * A; }
    """
    write(tmp_path, "low.h", "#include <stdint.h>\n#define LOW 0xFEULL\n")
    path = write(tmp_path, "two.c", source)
    with pytest.raises(DovetailError, match=r"several functions.*'f' or 'mul8u_TEST'"):
        dm.multiplier(path)
    with pytest.raises(DovetailError, match=r"unknown function .*'mul8u_test'; did you mean"):
        dm.multiplier(path, function="mul8u_test")
    exact = dm.multiplier(path, function="f")
    assert not exact.signed
    assert exact.errors().wce == 0
    cut = dm.multiplier(path, function="mul8u_TEST")
    assert (cut.bits, cut.signed) == ((8, 8), False)
    assert cut(255, 1) == 254  # the first parameter is the first operand, whatever its name
    assert cut(1, 255) == 0
    write(tmp_path, "low.h", "#include <stdint.h>\n#define LOW 0xFCULL\n")
    assert dm.multiplier(path, function="mul8u_TEST")(255, 1) == 252


@needs_cc
def test_c_wide_is_evaluated_pointwise(tmp_path):
    source = "int32_t mul12s_TEST(int16_t a, int16_t b) { return (a & ~7) * b; }"
    m = dm.multiplier(write(tmp_path, "wide.c", source))
    assert (m.bits, m.signed) == ((12, 12), True)
    rng = np.random.default_rng(0)
    a, w = rng.integers(-2048, 2048, (2, 50, 7))
    assert np.array_equal(m(a, w.T[0][:, None, None]), (a & ~7) * w.T[0][:, None, None])
    assert m.factors().rank == 1
    assert dm.multiplier(repr(m)) == m
    again = pickle.loads(pickle.dumps(m))
    assert again == m
    assert again(100, -3) == -288


@needs_cc
def test_c_signed_circuit_on_unsigned_words(tmp_path):
    """Some bit-level models take and give codes in uint64_t, whatever the circuit's sign."""
    source = """
    uint64_t mul12s_TEST(uint64_t a, uint64_t b) {
      int64_t x = (int64_t)(a << 52) >> 52, y = (int64_t)(b << 52) >> 52;
      return (uint64_t)(x * y) & 0xFFFFFF;
    }"""
    m = dm.multiplier(write(tmp_path, "coded.c", source))
    assert m.signed
    assert m([-2048, 2047, -1], [2047, -5, -1]).tolist() == [-2048 * 2047, -2047 * 5, 1]


@needs_cc
@pytest.mark.parametrize(
    ("source", "kwargs", "message"),
    [
        ("int f(void) { return 1; }", {}, "defines no multiplier; expected a function of two"),
        ("int32_t f(int16_t a, int16_t b) { return a; }", {}, "does not tell its operand width"),
        ("int8_t f(int8_t a, int8_t b) { return a }", {}, "does not compile with cc: .*error"),
        ("int8_t f(int8_t a, int8_t b) { return a; }", {"signed": False}, "cannot hold unsigned 8"),
        ("int8_t f(int8_t a, int8_t b) { return a; }", {"bits": 12}, "cannot hold signed 12-bit"),
        ("int8_t f(int8_t a, int8_t b) { return a; }", {"bit": 8}, "unexpected keyword .*'bit'"),
    ],
)
def test_wrong_c_files_teach(tmp_path, source, kwargs, message):
    with pytest.raises(DovetailError, match=message):
        dm.multiplier(write(tmp_path, "bad.c", source), **kwargs)


def test_missing_compiler_teaches(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(DovetailError, match=r"needs a C compiler.*CC=<compiler>.*[.]npy"):
        dm.multiplier(write(tmp_path, "f.c", SIGNED))


def header(table, kind="int16_t", name="lut", size="[256][256]"):
    rows = ",\n".join("{" + ", ".join(str(x) for x in row) + "}" for row in table.tolist())
    return f"// a table\n#include <stdint.h>\nconst {kind} {name}{size} = {{\n{rows}\n}};\n"


def test_header(tmp_path):
    table = dm.multiplier("mul8s_1L2H@v1.1").table().numpy()
    path = write(tmp_path, "good.h", header(table))
    m = dm.multiplier(path, check="mul8s_1L2H@v1.1")
    assert m.name == "lut"
    assert np.array_equal(m.table(), table)
    sized = write(tmp_path, "sized.h", header(table, size="[SIZE][SIZE]"))
    assert dm.multiplier(sized) == m
    assert not dm.multiplier(write(tmp_path, "u.h", header(table & 7, kind="uint16_t"))).signed


def test_header_with_the_sign_quadrant_bug_fails_its_check(tmp_path):
    good = dm.multiplier("mul8s_1L2H@v1.1")
    magnitude = np.abs(np.arange(-128, 0, dtype=np.int8)).astype(int)
    table = good.table().numpy().copy()
    table[128:, 128:] = good(magnitude[:, None], magnitude[None])
    path = write(tmp_path, "mul8s_1L2H.h", header(table))
    with pytest.raises(DovetailError) as caught:
        dm.multiplier(path, check="mul8s_1L2H@v1.1")
    message = str(caught.value)
    assert "12414 of 65536 products" in message
    assert "++ 0.0%, +- 0.0%, -+ 0.0%, -- 75.8%" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int x = 3;", "holds no table"),
        ("const int16_t lut[4][4] = {1, 2, 3};", "lut holds 3 entries; expected 4x4 = 16"),
        ("const int16_t lut[2][2] = {{1, 2}, {3, 4 + 5}};", "entries must be plain numbers"),
        ("const int16_t lut[2][2] = {{1, 2}, {3, 4};", "braces do not close"),
        ("int a[2][2] = {1,2,3,4}; int b[2][2] = {1,2,3,4};", "several tables.*'a' or 'b'"),
    ],
)
def test_wrong_headers_teach(tmp_path, text, message):
    with pytest.raises(DovetailError, match=message):
        dm.multiplier(write(tmp_path, "bad.h", text))
