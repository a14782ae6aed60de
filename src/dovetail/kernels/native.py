"""The native core in C++: how it is found, its instruction-set levels, and quantisation.

Loaded by ctypes from ``dovetail/_core.so`` on first use. Everything here computes the same bits at
every instruction-set level, for any number of threads and any split of the batch; where the library
is absent :func:`available` is false and the other realisations serve.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from dovetail.errors import DovetailError, unknown

__all__ = [
    "Shape",
    "available",
    "fingerprint",
    "isa",
    "levels",
    "library_path",
    "quantize",
    "set_isa",
]

_CODE_BYTES = {torch.int8: 1, torch.uint8: 1, torch.int16: 2, torch.int32: 4}


class Shape(ctypes.Structure):
    """``dv_shape``: the sizes of one op."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "channels", "outputs", "groups")),
        *((name, ctypes.c_int64 * 3) for name in ("size", "kernel", "stride", "dilation")),
        ("low", ctypes.c_int64 * 3),
        ("high", ctypes.c_int64 * 3),
        ("linear", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("lookups", ctypes.c_int32),
    )


def library_path() -> Path | None:
    """The core's file, beside the package or where an editable install put it; None if not built.

    >>> (library_path() is not None) == available()
    True
    """
    here = Path(__file__).parent.parent / "_core.so"
    if here.exists():
        return here
    try:
        installed = Path(str(metadata.distribution("dovetail").locate_file("dovetail/_core.so")))
    except metadata.PackageNotFoundError:
        return None
    return installed if installed.exists() else None


@cache
def _core() -> ctypes.CDLL | None:
    path = library_path()
    if path is None:
        return None
    core = ctypes.CDLL(str(path))
    _check_interface(core, Path(__file__).parents[3] / "native")
    for name in ("dv_message", "dv_levels", "dv_level"):
        getattr(core, name).restype = ctypes.c_char_p
    for name in ("table", "packed", "block_packed", "accumulate_packed", "wide_packed"):
        getattr(core, f"dv_{name}_bytes").restype = ctypes.c_int64
    core.dv_fingerprint.restype = ctypes.c_uint64
    core.dv_set_threads.restype = None
    core.dv_prepare_table.restype = None
    # libtorch exports its parallel loop under a stable C name; the core then shares its threads.
    torch_library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if torch_library.exists():
        exported = ctypes.CDLL(str(torch_library))
        if hasattr(exported, "torch_parallel_for") and hasattr(exported, "torch_get_num_threads"):
            core.dv_set_threads(exported.torch_parallel_for, exported.torch_get_num_threads)
    forced = os.environ.get("DOVETAIL_ISA")
    if forced and core.dv_set_level(forced.encode()):
        raise unknown("DOVETAIL_ISA level", forced, core.dv_levels().decode().split())
    return core


def _check_interface(core: ctypes.CDLL, headers: Path) -> None:
    """In a checkout, refuse a library that was built from other headers than those beside it."""
    found = sorted(headers.glob("dovetail*.h"))
    if not found:
        return  # installed: library and package come from one build
    digests = "".join(hashlib.sha256(header.read_bytes()).hexdigest() for header in found)
    expected = hashlib.sha256(digests.encode()).hexdigest()
    if hasattr(core, "dv_interface"):
        core.dv_interface.restype = ctypes.c_char_p
        if core.dv_interface().decode() == expected:
            return
    raise DovetailError(
        "the native core was built from an earlier state of this checkout; `pip install -e .` "
        "builds it again"
    )


def _loaded() -> ctypes.CDLL:
    core = _core()
    if core is None:
        raise DovetailError(
            "the native core is not built; `pip install .` builds it (a C++17 compiler is needed)"
        )
    return core


def _check(status: int) -> None:
    if status:
        raise DovetailError(f"native core: {_loaded().dv_message(status).decode()}")


def available() -> bool:
    """Whether the native core is built for this installation.

    >>> available() in (True, False)
    True
    """
    return _core() is not None


def levels() -> tuple[str, ...]:
    """The instruction-set levels this machine has, slowest first; empty without the core.

    >>> levels()[:1] in ((), ("scalar",))
    True
    """
    core = _core()
    return tuple(core.dv_levels().decode().split()) if core else ()


def isa() -> str:
    """The level in use: the best, or the one ``DOVETAIL_ISA`` or :func:`set_isa` forces.

    >>> not available() or isa() in levels()
    True
    """
    return str(_loaded().dv_level().decode())


def set_isa(level: str | None) -> None:
    """Force a level; ``None`` goes back to the best this machine has.

    >>> if available(): set_isa(None)
    """
    core = _loaded()
    if core.dv_set_level(level.encode() if level is not None else None):
        raise unknown("instruction-set level", str(level), levels())


def _need(name: str, tensor: Tensor, dtypes: Sequence[torch.dtype]) -> Tensor:
    """``tensor`` in contiguous form, refused if it is not on the CPU or not of such a type."""
    if not tensor.is_cpu or tensor.dtype not in dtypes:
        wanted = " or ".join(str(d).removeprefix("torch.") for d in dtypes)
        raise DovetailError(
            f"{name} must be {wanted} on the CPU, not {str(tensor.dtype).removeprefix('torch.')} "
            f"on {tensor.device}"
        )
    return tensor if tensor.is_contiguous() else tensor.detach().contiguous()


def _need_grid(scale: float, zero_point: int, qmin: int, qmax: int) -> None:
    if not (scale > 0 and math.isfinite(scale)):
        raise DovetailError(f"scale must be positive and finite, not {scale}")
    if not -(2**17) <= qmin <= zero_point <= qmax <= 2**17:
        raise DovetailError(
            f"zero point {zero_point} must lie in the code range {qmin}..{qmax} (18 bits at most)"
        )


def quantize(
    x: Tensor,
    scale: float | Tensor,
    zero_point: int | Tensor,
    qmin: int,
    qmax: int,
    axis: int | None = None,
    out_dtype: torch.dtype = torch.int8,
) -> Tensor:
    """Codes ``clamp(rint(x / scale) + zero_point, qmin, qmax)`` of a float32 tensor.

    Ties round to even; NaN gives the zero point; infinities saturate. ``axis`` names the dimension
    along which ``scale`` and ``zero_point`` are tensors of one entry per channel. ``out_dtype`` is
    int8, uint8, int16 or int32 and must hold the range.

    >>> if available(): print(quantize(torch.tensor([0.25, 0.5, 9.0]), 0.5, 0, -7, 7).tolist())
    ... else: print([0, 1, 7])
    [0, 1, 7]
    """
    core = _loaded()
    x = _need("x", x, (torch.float32,))
    if out_dtype not in _CODE_BYTES:
        raise unknown("code type", str(out_dtype), map(str, _CODE_BYTES))
    info = torch.iinfo(out_dtype)
    if qmin < info.min or qmax > info.max:
        raise DovetailError(f"codes {qmin}..{qmax} do not fit {out_dtype}")
    if axis is None:
        outer, channels, inner = 1, 1, x.numel()
    else:
        axis = axis % x.dim()
        outer, channels = math.prod(x.shape[:axis]), x.shape[axis]
        inner = math.prod(x.shape[axis + 1 :])
    scales = torch.as_tensor(scale, dtype=torch.float32).detach().reshape(-1).contiguous()
    zeros = torch.as_tensor(zero_point, dtype=torch.int32).detach().reshape(-1).contiguous()
    if zeros.numel() == 1:
        zeros = zeros.expand(channels).contiguous()
    if scales.numel() == 1:
        scales = scales.expand(channels).contiguous()
    if scales.numel() != channels or zeros.numel() != channels:
        raise DovetailError(
            f"{scales.numel()} scales and {zeros.numel()} zero points for {channels} channels"
        )
    for value in (scales.min(), scales.max()) if channels else ():  # a NaN is both
        for zero in zeros.aminmax():
            _need_grid(float(value), int(zero), qmin, qmax)
    out = torch.empty(x.shape, dtype=out_dtype)
    _check(
        core.dv_quantize(
            ctypes.c_void_p(x.data_ptr()),
            *(ctypes.c_int64(n) for n in (outer, channels, inner)),
            ctypes.c_void_p(scales.data_ptr()),
            ctypes.c_void_p(zeros.data_ptr()),
            qmin,
            qmax,
            _CODE_BYTES[out_dtype],
            ctypes.c_void_p(out.data_ptr()),
        )
    )
    return out


def fingerprint(x: Tensor) -> int:
    """A 64-bit fingerprint of a float32 tensor from about a thousand of its elements.

    Equal contents give equal fingerprints; it tells a changed weight cheaply, not certainly.

    >>> not available() or fingerprint(torch.ones(3)) == fingerprint(torch.ones(3))
    True
    """
    x = _need("x", x, (torch.float32,))
    return int(_loaded().dv_fingerprint(ctypes.c_void_p(x.data_ptr()), ctypes.c_int64(x.numel())))
