"""Make a checkpoint that ships with dovetail: train a model of the zoo from scratch (seconds).

    python examples/train_digits.py [--model row-transformer] [--seed 0] [--out FILE]

The same seed gives the same file on the same machine, and the same accuracy to within its
interval on any other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from dovetail import zoo
from dovetail.analysis import accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="digits-cnn", help="digits-cnn or row-transformer")
    parser.add_argument("--out", type=Path, help="the file; else it has the model's name")
    options = parser.parse_args()
    out = options.out or Path(f"{options.model}.safetensors")

    torch.set_num_threads(1)  # layers this small gain nothing from more, and one repeats exactly
    model = zoo.train(options.model, seed=options.seed)
    measured = accuracy(model, zoo.data.load("digits").test)
    # one entry: safetensors writes several in no fixed order, and the same seed means the same file
    about = (
        f"{options.model}, made by examples/train_digits.py --seed {options.seed} "
        f"with torch {torch.__version__}; test accuracy {measured}"
    )
    save_file(model.state_dict(), out, metadata={"about": about})
    out.chmod(0o644)
    print(f"{out}: test accuracy {measured}")


if __name__ == "__main__":
    main()
