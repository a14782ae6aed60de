"""The GPU that programs are compiled for: its compiler, its stream, and what is missing of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.build.toolchain import (
    include_folder,
    libraries,
    run,
    runtime_folder,
    said_first,
)
from dovetail.errors import DovetailError

__all__ = ["Gpu", "gpu", "set_gpu"]

#: No multiplication is fused with an addition: every operation rounds, as in C++ of the CPU.
FLAGS = [
    "-std=c++20",
    "-O3",
    "-fmad=false",
    "--expt-relaxed-constexpr",
    "-Xcompiler=-fPIC",
    "-Xcompiler=-ffp-contract=off",
    "-shared",
    "-w",
]
#: What code is made for where no GPU says which it is: later ones run it, too.
ARCHITECTURE = "sm_80"


class Gpu:
    """The GPUs of this machine, as torch knows them, and nvcc."""

    def missing(self) -> str | None:
        """Why nothing can run on a GPU here; None where it can."""
        if not torch.cuda.is_available():
            return "torch finds no GPU on this machine"
        return None

    def device(self, tensors: Iterable[tuple[str, Any]]) -> torch.device:
        """The one GPU that the named tensors are on; without a GPU, whatever it will be."""
        if self.missing() is not None:
            return torch.device("cuda")
        found: torch.device | None = None
        for name, tensor in tensors:
            if not isinstance(tensor, Tensor):
                continue
            if tensor.device.type != "cuda":
                raise DovetailError(
                    f"target='cuda', but {name} is on {tensor.device}: move the model and the "
                    "example with .cuda()"
                )
            found = tensor.device if found is None else found
            if tensor.device != found:
                raise DovetailError(f"{name} is on {tensor.device}, what comes before on {found}")
        return found or torch.device("cuda", torch.cuda.current_device())

    def stream(self, device: torch.device) -> Callable[[], int]:
        """A function that returns the address of torch's current stream on ``device``."""
        return partial(torch._C._cuda_getCurrentRawStream, device.index)

    def identity(self) -> str:
        """What a compiled library depends on besides its source."""
        return "\n".join((said_first(nvcc(), "--version", line=-1), *self._flags()))

    def build(self, sources: Sequence[Path], target: Path) -> None:
        """Make the shared library ``target`` of generated files, linked with torch."""
        folder = libraries()
        command = [
            nvcc(),
            *self._flags(),
            f"-I{include_folder()}",
            f"-I{runtime_folder()}",
            "-x",
            "cu",
            *map(str, sources),
            "-o",
            str(target),
            f"-L{folder}",
            f"-Xlinker=-rpath={folder}",
            "-ltorch_cpu",
            "-lc10",
        ]
        run(command, sources[-1], "nvcc")

    def _flags(self) -> list[str]:
        return [*FLAGS, f"-arch={os.environ.get('DOVETAIL_CUDA_ARCH') or self._architecture()}"]

    def _architecture(self) -> str:
        if self.missing() is not None:
            return ARCHITECTURE
        return "sm_{}{}".format(*torch.cuda.get_device_capability())


_gpu: list[Gpu] = [Gpu()]


def gpu() -> Gpu:
    """Where programs for GPUs are compiled and run."""
    return _gpu[0]


def set_gpu(chosen: Gpu) -> Gpu:
    """Put another in its place; returns the one that was there."""
    before, _gpu[0] = _gpu[0], chosen
    return before


@lru_cache(maxsize=1)
def nvcc() -> str:
    """``$NVCC``, or nvcc on the path or in CUDA's own folder."""
    for name in (os.environ.get("NVCC"), "nvcc", "/usr/local/cuda/bin/nvcc"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise DovetailError("target='cuda' needs nvcc: install CUDA's toolkit, or set NVCC to it")
