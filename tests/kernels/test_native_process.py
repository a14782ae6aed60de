"""What the native core does to the process around it: threads, forks, environment, symbols."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dovetail.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

ROOT = Path(__file__).parents[2]

SETUP = """
import os, sys, signal
import numpy as np, torch
from dovetail.kernels import native
from dovetail.kernels.native_products import NativeMac
torch.set_num_threads(2)
mac = NativeMac.table(np.arange(65536).reshape(256, 256) % 1009, True)
generator = torch.Generator().manual_seed(0)
a = torch.randint(-128, 128, (200, 300), generator=generator).to(torch.int8)
packed = mac.pack(torch.randint(-128, 128, (200, 300), generator=generator).to(torch.int8))
expected = mac.codes(a, packed)
"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_children_do_not_hang():
    done = python(
        SETUP
        + """
expected = expected.numpy()  # torch's own loops would hang in the child
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        same = all((mac.codes(a, packed).numpy() == expected).all() for _ in range(20))
        os._exit(0 if same else 1)
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""
    )
    assert done.returncode == 0, done.stderr


def test_python_threads_may_call_at_once():
    done = python(
        SETUP
        + """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    results = list(pool.map(lambda _: mac.codes(a, packed), range(40)))
sys.exit(not all(torch.equal(r, expected) for r in results))
"""
    )
    assert done.returncode == 0, done.stderr


def test_the_environment_forces_a_level():
    code = "from dovetail.kernels import native; print(native.isa())"
    level = native.levels()[0]
    assert python(code, DOVETAIL_ISA=level).stdout.strip() == level
    refused = python(code, DOVETAIL_ISA="avx3")
    assert refused.returncode != 0
    assert "unknown DOVETAIL_ISA level 'avx3'" in refused.stderr
    assert "scalar" in refused.stderr


@pytest.mark.skipif(not shutil.which("nm"), reason="binutils not installed")
@pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler")
@pytest.mark.parametrize("source", ["kernels", "casts"])
def test_kernels_emit_no_weak_symbols(tmp_path, source):
    """A weak function compiled for a wide level could replace the same one of a narrow level."""
    flags = re.findall(
        r"dovetail_level\((\w+) (-march=[^)]*)\)", (ROOT / "CMakeLists.txt").read_text()
    )
    assert flags[0][0] == "scalar"
    vnni = "-mavx512vbmi -mavx512vbmi2 -mavx512vnni"
    if not native.levels()[1:]:
        pytest.skip("one level only")
    for name, options in flags[:1] + flags[-1:]:
        target = tmp_path / f"{name}.o"
        subprocess.run(
            ["c++", "-std=c++17", "-O1", "-w", f"-DDV_LEVEL={name}", f"-I{ROOT / 'native'}", "-c",
             *options.replace("${VNNI}", vnni).split(), "-o", str(target),
             str(ROOT / f"native/kernels/{source}.cpp")],
            check=True,
        )  # fmt: skip
        listing = subprocess.run(["nm", str(target)], check=True, capture_output=True, text=True)
        weak = [line for line in listing.stdout.splitlines() if re.search(r" [WwVvu] ", line)]
        assert weak == []


COUNTED = """
import ctypes
import numpy as np, torch
from dovetail.kernels import native
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.native_products import NativeMac

Body = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
Loop = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, Body, ctypes.c_void_p
)
Count = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(ctypes.c_uint32))
threads, tasks = 1, []

def loop(begin, end, grain, body, context):
    tasks.append(end - begin)
    for part in range(threads):  # each thread's share, one after another
        cut = [begin + (end - begin) * (part + i) // threads for i in (0, 1)]
        body(*cut, context)
    return 0

def count(to):
    to[0] = threads
    return 0

kept = Loop(loop), Count(count)
native._loaded().dv_set_threads(*kept)
table = np.random.default_rng(0).integers(-16384, 16384, (256, 256))
mac = NativeMac.table(table, signed=True)
for channels, side, outputs, kernel, pad in (
    (64, 30, 64, 3, 1), (128, 28, 128, 3, 1), (256, 14, 256, 3, 1), (512, 7, 512, 3, 1),
    (256, 14, 256, 1, 0), (3, 40, 16, 5, 2), (3, 112, 32, 7, 3), (20, 33, 17, 3, 0),
):
    geometry = Geometry.conv(2, padding=pad)
    a = torch.randint(-128, 128, (1, channels, side, side), dtype=torch.int8)
    w = torch.randint(-128, 128, (outputs, channels, kernel, kernel), dtype=torch.int8)
    threads = 1
    expected = mac.codes(a, mac.pack(w, geometry), 3)
    for threads in (2, 3):
        packed = mac.pack(w, geometry)
        tasks.clear()
        assert torch.equal(mac.codes(a, packed, 3), expected)
        share = -(-tasks[-1] // threads) * threads / tasks[-1]
        assert share <= (1.0 if threads == 2 else 1.5), (channels, side, outputs, threads, tasks)
"""


def test_one_image_keeps_both_threads_busy():
    """Of a convolution by table, whose tasks are few; and the shares do not change a bit."""
    done = python(COUNTED)
    assert done.returncode == 0, done.stderr
