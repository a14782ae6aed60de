"""What is measured already: a CSV file that grows row by row, so that a run can go on."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FIELDS = ("network", "arithmetic", "method", "seed", "value", "says")
Key = tuple[str, str, str, int]


@dataclass
class Journal:
    """The rows of ``path``; a row cut short by an interruption is measured again."""

    path: Path

    def __post_init__(self) -> None:
        self.rows: dict[Key, float | str] = dict(self._read())

    def _read(self) -> Iterator[tuple[Key, float | str]]:
        if not self.path.exists():
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["says"] is not None:
                    key = (row["network"], row["arithmetic"], row["method"], int(row["seed"]))
                    yield key, row["says"] or float(row["value"])

    def add(self, key: Key, found: float | str) -> None:
        """One more result; the whole file is written anew and put in place at once."""
        self.rows[key] = found
        self.path.parent.mkdir(parents=True, exist_ok=True)
        place = self.path.with_suffix(".part")
        with place.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(FIELDS)
            for row, value in self.rows.items():
                says = value if isinstance(value, str) else ""
                writer.writerow([*row, "" if says else repr(value), says])
        place.replace(self.path)

    def by_seed(self, network: str, arithmetic: str, method: str) -> dict[int, float]:
        """What the seeds gave, in their order."""
        found = sorted(
            (k[3], v) for k, v in self.rows.items() if k[:3] == (network, arithmetic, method)
        )
        return {seed: value for seed, value in found if isinstance(value, float)}

    def refusals(self) -> dict[tuple[str, str], str]:
        """What a method says of a network that it cannot act on."""
        return {(k[0], k[2]): v for k, v in self.rows.items() if isinstance(v, str)}
