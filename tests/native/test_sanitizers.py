"""The native core under the address and undefined-behaviour sanitizers, warnings being errors."""

from __future__ import annotations

import platform
import re
from functools import cache

import pytest

from native_builds import DRIVERS, ROOT, build, need, run

#: Kernels that the sanitizers' build compiles once for several levels: the last ones use its code.
SHARED = {
    **dict.fromkeys(("casts", "float_mul", "function"), ("avx512", "avx512vnni", "amx")),
    **dict.fromkeys(("accumulate", "wide"), ("avx512vnni", "amx")),
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_native_core_is_clean(driver):
    need("cmake", "ninja", "c++")
    folder = build("sanitize", (driver,), "DOVETAIL_SANITIZE=ON")
    strings = ("100",) if driver == "fuzz_test" else ()  # libFuzzer tries more, below
    assert run(folder / driver, *strings).strip().endswith(": 0 failures")


@cache
def settings():
    """CMake's words about levels: names and their options, with its variables put in."""
    text = (ROOT / "CMakeLists.txt").read_text()
    (vnni,) = re.findall(r"set\(VNNI ([^)]*)\)", text)
    levels = re.findall(r"dovetail_level\((\w+)\s([^)]+)\)", text)
    return {name: words.replace("${VNNI}", vnni).split() for name, words in levels}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have one level")
@pytest.mark.parametrize("kernel", SHARED)
def test_levels_that_share_their_code_have_the_same_text(kernel):
    need("c++")
    texts = set()
    for level in SHARED[kernel]:
        source = ROOT / "native" / "kernels" / f"{kernel}.cpp"
        options = ("-std=c++17", "-E", "-DDV_LEVEL=level", f"-I{ROOT / 'native'}")
        own, lines = False, []
        for line in run("c++", *options, *settings()[level], source).splitlines():
            if line.startswith("# "):
                own = f"{ROOT}/native" in line
            elif own:
                lines.append(line)
        assert len(lines) > 100
        texts.add("\n".join(lines))
    assert len(texts) == 1


@pytest.mark.slow
def test_no_string_of_bytes_breaks_the_core(tmp_path):
    """A minute of libFuzzer, from nothing."""
    need("cmake", "ninja", "clang++")
    options = ("DOVETAIL_SANITIZE=ON", "DOVETAIL_FUZZ=ON", "CMAKE_CXX_COMPILER=clang++")
    folder = build("fuzz", ("fuzz",), *options)
    limits = ("-max_len=128", "-max_total_time=60", "-rss_limit_mb=4096")
    assert "DONE" in run(folder / "fuzz", *limits, f"-artifact_prefix={tmp_path}/", tmp_path)
