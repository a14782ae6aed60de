"""Exact attribution of ResNet-18 in forward passes' worth: what prefixes from a tape save.

500 of the digits as images of 32 x 32 in one batch; int8 operands, an approximate multiplier and an
int24 register in every convolution and the head: 21 operations of 4 sources, each enabled alone and
disabled alone. Weights are random: no time depends on them. Passes of one operation are timed right
after a whole one of their kind: the exact model's for what is enabled, the emulated one's for what
is disabled. Without a tape ten items are ten passes' worth at least.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from rich.progress import Progress
from rich.table import Table
from torch import nn

import dovetail as dv
from benchmarks import report
from benchmarks.timing import clock_of, seconds
from dovetail.analysis.attribution.compared import Compared
from dovetail.analysis.attribution.passes import Passes
from dovetail.emulation.partial import partial as of_sources
from dovetail.emulation.partial import sources_of
from dovetail.emulation.state import sites
from dovetail.kernels import native
from dovetail.zoo import resnet

IMAGES = 500
LIMIT = 6.0
RECIPE = dv.Recipe(dv.rule("*", input="int8", weight="int8", mul="mul8s_1L2H@v1.1", acc="int24"))


def model_and_images() -> tuple[nn.Module, torch.Tensor]:
    """An emulated ResNet-18, and digits that it takes."""
    torch.manual_seed(0)
    data = dv.zoo.data.load("digits", batch_size=IMAGES)
    digits = next(iter(data.test))[0][:IMAGES]
    images = F.interpolate(digits, 32, mode="bilinear").expand(-1, 3, -1, -1).contiguous()
    model = resnet.resnet18().eval()
    dv.apply_(model, RECIPE, images[:64])
    return model, images


@torch.no_grad()
def measure(threads: int, levels: Sequence[str], progress: Progress) -> Table:
    """Passes' worth of ten items: a row per level."""
    table = Table(title=f"passes' worth of ten items, {threads} thread{'s' if threads > 1 else ''}")
    for header in ("level", "enabled", "disabled"):
        table.add_column(header)
    model, images = model_and_images()
    task = progress.add_task(f"{threads} threads", total=len(levels))
    for level in levels:
        native.set_isa(level)
        found = [_worth(model, images, threads, exact=exact) for exact in (True, False)]
        table.add_row(level, *(f"{10 * each:.1f}" for each in found))
        progress.advance(task)
    return table


def _worth(model: nn.Module, images: torch.Tensor, threads: int, *, exact: bool) -> float:
    """The mean over all items of their time over that of a whole pass."""
    clock = clock_of(threads)
    passes, plain = (Passes(model, (images,), cache=cache) for cache in (True, False))
    passes.whole(exact=exact)
    ratios: list[float] = []
    for site, _ in sites(model):
        whole = seconds(partial(plain.whole, exact=exact), clock)
        own = list(sources_of(site))
        for source in own:
            kept = [source] if exact else [each for each in own if each != source]
            compared = Compared() if exact else None
            change = of_sources(site, kept)
            run = partial(passes.changed, site.op.key, change, exact=exact, compared=compared)
            ratios.append(seconds(run, clock) / whole)
    return statistics.mean(ratios)


def run(threads: Sequence[int], levels: Sequence[str], rounds: int, save: bool) -> None:
    """Measure, print, and with ``save`` write ``results/attribution.md``; in one round."""
    del rounds
    report.run(
        "attribution",
        "Exact attribution of ResNet-18: what ten items cost in whole forward passes",
        [
            f"{IMAGES} images of 32 x 32, 84 items of each kind: 4 sources of 21 operations. "
            f"Limit on every level: {LIMIT}.",
            report.CLOCKS,
        ],
        lambda count, progress: measure(count, levels, progress),
        threads,
        save,
    )
