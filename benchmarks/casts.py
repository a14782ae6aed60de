"""Casts of a 4096 x 4096 float32 tensor against copying it.

``fresh`` is the time of a cast into new memory over that of ``clone``; ``out=`` that of a cast into
memory in use over that of ``copy_``, along the last axis and (block formats) along the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

import dovetail as dv
from benchmarks import report
from benchmarks.timing import clock_of, ratios
from dovetail.formats import Format, IntFormat
from dovetail.formats.realise import Report, round_integers
from dovetail.kernels import native
from dovetail.kernels.native_casts import cast_into
from dovetail.kernels.native_integers import range_of

SIZE = 4096
LIMITS = {"fresh": 1.3, "out=": 1.6, "first axis": 2.5, "stochastic": 3}

#: Format, and what peers take for it over ``clone`` (one thread, another AVX-512 machine; a clone
#: takes four to five times as long as a copy into memory in use).
FORMATS = {
    "fp8_e4m3": "torch 3.2, ml_dtypes 7.0, QPyTorch 7.2, brevitas 10, torchao 29, microxcaling 38",
    "fp8_e5m2": "cpfloat 0.9, torch 1.7, QPyTorch 5.8, ml_dtypes 8.0, microxcaling 44",
    "fp16": "",
    "bf16": "",
    "fp8_e4m3fnuz": "",
    "fp8_e4m3(rounding=TowardPositive)": "pychop 54 (any mode)",
    "fp8_e4m3(rounding=ToOdd)": "gfloat 51 (any mode)",
    "fp8_e4m3(rounding=Stochastic)": "cpfloat 5.4 (libc rand), QPyTorch 23",
    "fixed(8, 4)": "QPyTorch 13",
    "mxfp8_e4m3": "torchao 7.7, dmx 8.7, brevitas 13, microxcaling 45",
    "mxfp4": "dmx 12, torchao 30, microxcaling 47",
    "mxint8": "brevitas 7.3, dmx 11, microxcaling 25",
    "bfp(m=8, block=64)": "dmx 9.9, QPyTorch 12, microxcaling 24; first axis 9.3, 17, 26",
    "nvfp4": "",
    "SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{16}": "",
    "nf4(block=64)": "",
    "posit(8, 1)": "",
    "posit(16, 2)": "",
    "log(4, 3)": "",
    "int8": "QPyTorch 13 (fixed 8-bit)",
    "int8(affine)": "",
    "int8(channel=0)": "torch.fake_quantize 2.3, scales given",
    "int8(channel=1)": "torch.fake_quantize 2.4, scales given",
    "int8(group=128)": "",
    "int8(affine, group=32)": "",
    "int8, scale given": "",
    "nvfp4, scale given": "",
    "fp8_e4m3, with mask": "",
    "mxfp4, with mask": "",
    "int8, scale given, with mask": "",
    "no cast: the range alone": "",
}

NOTE = (
    "Formats whose scale follows from the whole tensor (`int8`, `int8(affine)`, `int8(channel=1)`, "
    "and `nvfp4` unless its scale is given) have to read it twice. Their floor is not 1 but 1 + r, "
    "r being the time of one more read over that of the copy: the row `the range alone`. Where "
    "1 + r is beyond a limit, no cast can meet it. `int8(channel=0)` and groups read memory once: "
    "the second look at a channel is from the cache. `with mask`: the mask of the straight-through "
    "gradient, a byte per value, from the same pass."
)


def _format(name: str) -> Format | None:
    """The format of a row; None: no cast."""
    spelling = name.partition(", scale")[0].partition(", with")[0]
    return None if spelling.startswith("no cast") else dv.format(spelling)


def _call(name: str, x: Tensor, axis: int, out: Tensor | None) -> Callable[[], object]:
    """The cast that a row of the table names."""
    fmt = _format(name)
    if fmt is None:
        return partial(range_of, x, None)
    report = Report if name.endswith("with mask") else lambda: None
    if isinstance(fmt, IntFormat) and "given" in name:
        scale, zero = torch.tensor(0.03), torch.tensor(0, dtype=torch.int32)
        return lambda: round_integers(x, fmt, scale, zero, None, out, report())
    if isinstance(fmt, IntFormat):
        return partial(dv.cast, x, fmt, axis if fmt.group else None, out)
    whole = 1e-3 if "given" in name else None
    return lambda: cast_into(x, fmt, axis, 1, out, whole, report())


def measure(threads: int, level: str, rounds: int, progress: Progress) -> Table:
    """One table of ratios: a row per format."""
    native.set_isa(level)
    x = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    out = torch.empty_like(x)
    into: dict[str, Callable[[], object]] = {}
    for name in FORMATS:
        into[f"last {name}"] = _call(name, x, -1, out)
        if "block" in name or "group" in name or hasattr(_format(name), "block"):
            into[f"first {name}"] = _call(name, x, 0, out)
    fresh = {name: _call(name, x, -1, None) for name in FORMATS}
    clock = clock_of(threads)
    task = progress.add_task(f"{threads} threads", total=2)
    clones = ratios(x.clone, fresh, rounds, clock=clock)
    progress.advance(task)
    copies = ratios(lambda: out.copy_(x), into, rounds, clock=clock)
    progress.advance(task)
    plural = "s" if threads > 1 else ""
    table = Table(title=f"time / time of a copy, {level}, {threads} thread{plural}")
    for header in ("format", "fresh", "out=", "out= first axis", "peers, fresh, one thread"):
        table.add_column(header, justify="left" if header[0] in "fp" else "right")
    for name, peers in FORMATS.items():
        first = copies.get(f"first {name}")
        shown = "" if first is None else f"{first:.2f}"
        figures = (f"{clones[name]:.2f}", f"{copies[f'last {name}']:.2f}", shown)
        table.add_row(name.replace("[", r"\["), *figures, peers)
    return table


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure at the best of ``levels``, print, and with ``save`` write ``results/casts.md``."""
    report.run(
        "casts",
        "Casts: time as a ratio to copying the tensor",
        [
            f"{SIZE} x {SIZE} float32. `fresh`: new memory, over `clone`; `out=`: memory in use, "
            "over `copy_`.",
            report.CLOCKS,
            report.limits("AVX-512, one thread", LIMITS),
            NOTE,
        ],
        lambda count, progress: measure(count, levels[-1], rounds, progress),
        threads,
        save,
    )
