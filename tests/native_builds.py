"""Builds of the native core's own tests, each in a folder of its own under build/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
DRIVERS = (
    *("native_test", "cast_test", "block_test", "accumulate_test", "float_test", "wide_test"),
    *("function_test", "fuzz_test"),
)


def run(*command: str | Path, timeout: float = 1200) -> str:
    """What the command printed; it must succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "PATH": PATH, "ASAN_OPTIONS": "detect_leaks=0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def need(*tools: str) -> None:
    """Skip the test where one of the programs is missing."""
    if missing := [tool for tool in tools if not shutil.which(tool, path=PATH)]:
        pytest.skip(f"not installed: {', '.join(missing)}")


def build(name: str, targets: tuple[str, ...], *options: str) -> Path:
    """The folder that the targets were built in."""
    folder = ROOT / "build" / name
    run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", *(f"-D{option}" for option in options))
    run("ninja", "-C", folder, *targets)
    return folder
