"""The native core under the address and undefined-behaviour sanitizers, warnings being errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def run(*command: str) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": PATH, "ASAN_OPTIONS": "detect_leaks=0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.parametrize(
    "driver",
    ["native_test", "cast_test", "block_test", "accumulate_test", "float_test", "wide_test"],
)
def test_native_core_is_clean(driver):
    if not all(shutil.which(tool, path=PATH) for tool in ("cmake", "ninja", "c++")):
        pytest.skip("the sanitizer build needs cmake, ninja and a C++ compiler")
    build = ROOT / "build" / "sanitize"
    run("cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DDOVETAIL_SANITIZE=ON")
    run("ninja", "-C", str(build), driver)
    assert run(str(build / driver)).strip().endswith(": 0 failures")
