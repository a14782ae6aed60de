"""A GPU that is not there: generated CUDA compiled as C++, its threads run by the processor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dovetail.compiler.build.gpu import Gpu, set_gpu
from dovetail.compiler.build.toolchain import compiler, include_folder, libraries, run

SHIM = Path(__file__).parent / "cuda_on_cpu"
FLAGS = [
    "-std=c++20",
    "-O0",
    "-march=native",
    "-ffp-contract=off",
    "-fPIC",
    "-shared",
    "-w",
    "-Daoti_torch_device_type_cuda=aoti_torch_device_type_cpu",
    '-DDOVETAIL_DEVICE_LIBRARY="libtorch_cpu.so"',
    '-DDOVETAIL_DEVICE_PREFIX="aoti_torch_cpu_"',
]
_LAUNCH = re.compile(r"cudaLaunchKernel\(\(void\*\)(\w+)")
_CHEVRONS = re.compile(r"(\w+)<<<(.*?)>>>\(")


class HostGpu(Gpu):
    """The processor in the place of a GPU: its memory is the host's."""

    def missing(self):
        return None

    def device(self, tensors):
        return torch.device("cpu")

    def stream(self, device):
        return lambda: 0x5EED

    def identity(self):
        return "\n".join((*FLAGS, *(p.read_text() for p in SHIM.iterdir())))

    def build(self, sources, target):
        for path in sources:
            code = _LAUNCH.sub(r"cudaLaunchKernel(\1", path.read_text())
            path.write_text(_CHEVRONS.sub(r"on_cpu::launched(\1, \2)(", code))
        folder = libraries()
        command = [compiler(), *FLAGS, f"-I{SHIM}", f"-I{include_folder()}", "-x", "c++"]
        command += [*map(str, sources), "-o", str(target), f"-L{folder}", f"-Wl,-rpath,{folder}"]
        run([*command, "-ltorch_cpu", "-lc10"], sources[-1])


@contextmanager
def host_gpu() -> Iterator[None]:
    """Programs for GPUs run on the processor here."""
    before = set_gpu(HostGpu())
    try:
        yield
    finally:
        set_gpu(before)
