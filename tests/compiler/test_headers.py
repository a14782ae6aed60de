"""The headers of programs are compiled once, and change nothing but the time that it takes."""

from __future__ import annotations

import ctypes

import pytest

from dovetail.compiler.build import library
from dovetail.compiler.build.cache import cache_folder
from dovetail.compiler.build.library import FIRST, compile_library, precompiled

pytest.importorskip("dace")

SOURCE = """#include <dace/dace.h>
#include "dovetail_math.h"
extern "C" double value(double x) { return dv_relu(x) + min(2, 3); }
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path))
    monkeypatch.setenv("DOVETAIL_CXXFLAGS", "-O0")
    return cache_folder() / "programs"


def fill(cache, count):
    for number in range(count):
        (cache / str(number)).mkdir(parents=True)
        (cache / str(number) / "program.cpp").write_text(SOURCE)


def test_they_are_compiled_where_a_few_programs_were_and_used_from_then_on(cache):
    fill(cache, FIRST)
    source = cache / "0" / "program.cpp"
    compile_library(source, cache / "first.so")
    (headers,) = cache.glob("headers-*/programs.h.gch")
    made = headers.stat().st_mtime_ns
    # Read in place of the text, or the text's error would show.
    headers.with_suffix("").write_text("#error the text was read")
    compile_library(source, cache / "second.so")
    assert headers.stat().st_mtime_ns == made
    for name in ("first.so", "second.so"):
        value = ctypes.CDLL(str(cache / name)).value
        value.restype, value.argtypes = ctypes.c_double, [ctypes.c_double]
        assert value(1.5) == 3.5


def test_a_single_program_does_not_wait_for_them(cache):
    assert precompiled() == []
    fill(cache, FIRST - 1)
    assert precompiled() == []


def test_other_compilers_read_the_text(cache, monkeypatch):
    fill(cache, FIRST)
    monkeypatch.setattr(library, "compiler_version", lambda: "Debian clang version 14.0.6")
    assert precompiled() == []
