"""A multiplier of one's own, as a Python function and as a C file, on layers of a trained network.

python examples/own_multiplier.py
"""

from __future__ import annotations

from pathlib import Path

import torch

import dovetail as dv
from dovetail import analysis, zoo


def coarse(a, w):
    """Rounds the input to a multiple of 4 before multiplying; a and w are NumPy arrays."""
    return (a + 2) // 4 * 4 * w


def main() -> None:
    torch.set_num_threads(1)  # layers this small gain nothing from more
    in_python = dv.multiplier(coarse, bits=8, signed=True)
    in_c = dv.multiplier(Path(__file__).with_suffix(".c"))  # compiled here, by the system's cc
    print(f"{in_python.name}: {in_python.errors()}")
    print(f"{in_c.name}: {in_c.errors()}")

    model = zoo.build("digits-cnn")
    model.load_state_dict(zoo.checkpoint("digits-cnn"))
    data = zoo.data.load("digits")
    print(f"\nfp32      {analysis.accuracy(model, data.test)}")

    recipe = dv.Recipe(
        dv.rule("*", input="int8", weight="int8"),
        dv.rule("conv*", mul=in_python),
        dv.rule("conv5", mul=in_c),
    )
    dv.apply_(model, recipe, data.example)  # the ranges come from this batch of training images
    print(f"emulated  {analysis.accuracy(model, data.test)}\n")
    for row in analysis.layers(model, data.example):
        print(f"{row.key:6} {row.changed:6.1%} of the products changed, {row.isolated_db:5.1f} dB")

    dv.fit(model, data.train, epochs=1, seed=0)
    print(f"\nretrained {analysis.accuracy(model, data.test)}")
    dv.remove_(model)  # an ordinary model again, with the retrained weights


if __name__ == "__main__":
    main()
