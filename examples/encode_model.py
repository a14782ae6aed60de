"""A trained network stored in the bits of its formats: real sizes, and the accuracy that is left.

python examples/encode_model.py [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import dovetail as dv
from dovetail import analysis, zoo
from dovetail.formats.codes import decode, encode
from dovetail.storage import load_encoded, save_encoded

FORMATS = ("bf16", "mxfp8_e4m3", "int8", "mxfp6_e2m3", "mxfp4", "nvfp4", "nf4(block=64)", "int3")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="write the files here and leave them")
    folder = parser.parse_args().keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # layers this small gain nothing from more

    weight = zoo.checkpoint("digits-cnn")["conv2.weight"]
    codes = encode(weight, "mxfp4", axis=1)
    print(f"one weight     {codes}")
    same = torch.equal(decode(codes), dv.cast(weight, "mxfp4", 1))
    print(f"decoded        equal to dv.cast: {same}\n")

    model = zoo.build("digits-cnn")
    model.load_state_dict(zoo.checkpoint("digits-cnn"))
    data = zoo.data.load("digits")
    print(f"{'fp32':14} {analysis.accuracy(model, data.test)}")
    for spelling in FORMATS:
        path = folder / f"{spelling.split('(')[0]}.safetensors"
        recipe = dv.Recipe(dv.rule("*", weight=spelling))  # blocks along what is summed
        report = save_encoded(model, path, recipe)
        stored = zoo.build("digits-cnn")
        stored.load_state_dict(load_encoded(path))
        accuracy = analysis.accuracy(stored, data.test)
        print(f"{spelling:14} {accuracy}  {report.nbytes:6,} bytes, {report.ratio:.2f} x smaller")

    recipe = dv.Recipe(dv.rule("*", weight="mxfp4"), dv.rule("conv1", weight="fp8_e4m3fn"))
    print(f"\n{save_encoded(model, folder / 'recipe.safetensors', recipe, data.example)}")


if __name__ == "__main__":
    main()
