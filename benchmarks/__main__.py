"""``python -m benchmarks``: all measurements, or those named."""

from __future__ import annotations

import argparse

from benchmarks import (
    accumulators,
    attribution,
    block,
    calls,
    casts,
    compiler,
    costs,
    encoder,
    floats,
    functions,
    gptq,
    mac,
    models,
    search,
    training,
    wide,
)
from dovetail.kernels import native

RUNS = {
    "mac": mac.run,
    "models": models.run,
    "training": training.run,
    "gptq": gptq.run,
    "costs": costs.run,
    "wide": wide.run,
    "floats": floats.run,
    "accumulators": accumulators.run,
    "block": block.run,
    "encoder": encoder.run,
    "casts": casts.run,
    "functions": functions.run,
    "compiler": compiler.run,
    "calls": calls.run,
    "attribution": attribution.run,
    "search": search.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("which", nargs="*", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--levels", nargs="+", choices=native.levels(), default=native.levels())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64, help="examples in a training step")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.md")
    options = parser.parse_args()
    for which in options.which:
        own = {"batch": options.batch} if which == "training" else {}
        RUNS[which](options.threads, options.levels, options.rounds, options.save, **own)


if __name__ == "__main__":
    main()
