"""Search two networks layer by layer, and compare the fronts with the uniform designs.

    python examples/study/study.py [--trials 240] [--workers 1] [--out out/study]

For the digits CNN and the row transformer, prints the front, and for each of the 24 uniform designs
(one format and one multiplier for all layers) a design of the front that is as accurate at least
and takes no more energy. Exit code 1 if one has none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dovetail.experiment import search
from dovetail.search import Front, Trial

STUDY = Path(__file__).with_name("study.yaml")
NETWORKS = ("digits-cnn", "row-transformer")


def is_uniform(trial: Trial) -> bool:
    """Whether all layers have one format and one multiplier."""
    formats = {label for name, label in trial.design.items() if name.endswith(".input+weight")}
    multipliers = {label for name, label in trial.design.items() if name.endswith(".mul")}
    return len(formats) == len(multipliers) == 1


def as_good(front: Front, uniform: Trial) -> Trial | None:
    """The point of the front with the least energy among those as accurate as ``uniform``."""
    accurate = [t for t in front if t.values["accuracy"] >= uniform.values["accuracy"]]
    best = min(accurate, key=lambda trial: trial.values["energy_pj"], default=None)
    if best is None or best.values["energy_pj"] > uniform.values["energy_pj"]:
        return None
    return best


def compared(front: Front) -> bool:
    """Print every uniform design with the point that is as good; whether all have one."""
    print(
        f"{'uniform design':28}{'accuracy':>10}{'energy':>10}   {'on the front':>12}{'energy':>10}"
    )
    whole, better = True, 0
    uniform = [trial for trial in front.trials if is_uniform(trial)]
    for trial in uniform:
        found = as_good(front, trial)
        energy = trial.values["energy_pj"]
        name = " x ".join(dict.fromkeys(trial.design.values()))
        line = f"{name:28}{trial.values['accuracy']:>10.2%}{energy / 1e6:>7.2f} uJ   "
        if found is None:
            print(line + "none")
            whole = False
            continue
        better += found.number != trial.number
        saved = found.values["energy_pj"] / energy
        print(line + f"{found.values['accuracy']:>12.2%}{saved:>9.0%} ")
    print(f"\n{better} of {len(uniform)} uniform designs are beaten, the others are on the front\n")
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=240)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/study"))
    options = parser.parse_args()
    whole = True
    for network in NETWORKS:
        changes = [f"model.builtin={network}", f"search.trials={options.trials}"]
        front = search(
            STUDY,
            overrides=changes,
            out=options.out / network,
            workers=options.workers,
            progress=True,
        )
        print(f"{network}: {len(front)} of {len(front.trials)} designs are on the front\n")
        for trial in front:
            figures = trial.values
            print(
                f"trial {trial.number:>4}{figures['accuracy']:>10.2%}"
                f"{figures['energy_pj'] / 1e6:>7.2f} uJ"
            )
        print()
        whole &= compared(front)
    return 0 if whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
