"""The native core by another compiler, and on another architecture: no warnings, equal bits."""

from __future__ import annotations

import pytest

from native_builds import DRIVERS, build, need, run

ARM = "aarch64-linux-gnu-g++"
CROSS = (
    "CMAKE_SYSTEM_NAME=Linux",
    "CMAKE_SYSTEM_PROCESSOR=aarch64",
    f"CMAKE_CXX_COMPILER={ARM}",
    "CMAKE_EXE_LINKER_FLAGS=-static",
)


@pytest.mark.slow
def test_arm():
    need("cmake", "ninja", ARM, "qemu-aarch64-static")
    folder = build("arm", (*DRIVERS, "_core"), "DOVETAIL_TESTS=ON", *CROSS)
    for driver in DRIVERS:
        assert run("qemu-aarch64-static", folder / driver).strip() == "scalar: 0 failures"


@pytest.mark.slow
def test_clang():
    need("cmake", "ninja", "clang++")
    options = ("DOVETAIL_TESTS=ON", "CMAKE_CXX_COMPILER=clang++")
    folder = build("clang", (*DRIVERS, "_core"), *options)
    for driver in DRIVERS:
        assert run(folder / driver).strip().endswith(": 0 failures")
