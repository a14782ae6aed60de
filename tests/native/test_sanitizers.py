"""The native core under the address and undefined-behaviour sanitizers, warnings being errors."""

from __future__ import annotations

import pytest

from native_builds import DRIVERS, build, need, run


@pytest.mark.parametrize("driver", DRIVERS)
def test_native_core_is_clean(driver):
    need("cmake", "ninja", "c++")
    folder = build("sanitize", (driver,), "DOVETAIL_SANITIZE=ON")
    strings = ("100",) if driver == "fuzz_test" else ()  # libFuzzer tries more, below
    assert run(folder / driver, *strings).strip().endswith(": 0 failures")


@pytest.mark.slow
def test_no_string_of_bytes_breaks_the_core(tmp_path):
    """A minute of libFuzzer, from nothing."""
    need("cmake", "ninja", "clang++")
    options = ("DOVETAIL_SANITIZE=ON", "DOVETAIL_FUZZ=ON", "CMAKE_CXX_COMPILER=clang++")
    folder = build("fuzz", ("fuzz",), *options)
    limits = ("-max_len=128", "-max_total_time=60", "-rss_limit_mb=4096")
    assert "DONE" in run(folder / "fuzz", *limits, f"-artifact_prefix={tmp_path}/", tmp_path)
