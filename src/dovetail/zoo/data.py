"""Real data that needs no download, split the same way every time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from dovetail._optional import optional
from dovetail.errors import DovetailError, unknown
from dovetail.zoo.language import documentation

__all__ = ["Data", "load", "names"]

CALIBRATION_IMAGES = 256

Batches = DataLoader[tuple[Tensor, ...]]


@dataclass(frozen=True)
class Data:
    """The batches of one data set: each loader yields ``(inputs, targets)``.

    ``train`` shuffles with torch's global generator, so a seed fixes its order; ``calibration``
    is a subset of it in a fixed order; ``test`` shares no image with either. ``example`` is one
    batch of inputs. ``sha256`` names the data, so that two reports can tell they mean the same.
    """

    name: str
    train: Batches
    calibration: Batches
    test: Batches
    example: Tensor
    classes: int
    sha256: str

    def __str__(self) -> str:
        sizes = [len(part.dataset) for part in (self.train, self.calibration, self.test)]  # type: ignore[arg-type]
        return f"{self.name}: {sizes[0]} train ({sizes[1]} of them to calibrate), {sizes[2]} test"


def names() -> list[str]:
    """The data sets of the zoo.

    >>> names()
    ['digits', 'documentation']
    """
    return sorted(_DATA)


def load(name: str, *, seed: int = 0, batch_size: int = 64) -> Data:
    """The data set ``name``; ``seed`` picks the calibration images among the training images.

    The test images are the same for every seed: a shipped checkpoint has never seen them. Of
    ``documentation``, characters and what follows each, an "image" is a run of 32 of them.

    >>> print(load("digits"))
    digits: 1078 train (256 of them to calibrate), 719 test
    >>> load("digit")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown data set 'digit'; did you mean 'digits'? ...
    """
    if name not in _DATA:
        raise unknown("data set", name, _DATA)
    if batch_size < 1:
        raise DovetailError(f"batch_size {batch_size} must be at least 1")
    x, y, held_out, classes = _DATA[name]()
    test, train = torch.nonzero(held_out)[:, 0], torch.nonzero(~held_out)[:, 0]
    picked = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    calibration = train[picked[:CALIBRATION_IMAGES].sort().values]

    def batches(rows: Tensor, shuffle: bool = False) -> Batches:
        return DataLoader(TensorDataset(x[rows], y[rows]), batch_size=batch_size, shuffle=shuffle)

    return Data(
        name=name,
        train=batches(train, shuffle=True),
        calibration=batches(calibration),
        test=batches(test),
        example=x[calibration[:batch_size]],
        classes=classes,
        sha256=hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest(),
    )


def _held_out(target: np.ndarray[Any, Any]) -> Tensor:
    """True for 40 % of each class: its 2nd and 4th of every five images, in the order they come.

    No random generator: the split must outlive changes to any of them, and every writer, whose
    images stand together in the data, lands on both sides.
    """
    held_out = torch.zeros(len(target), dtype=torch.bool)
    for label in np.unique(target):
        rows = torch.from_numpy(np.flatnonzero(target == label))
        position = torch.arange(len(rows)) % 5
        held_out[rows] = (position == 1) | (position == 3)
    return held_out


Samples = tuple[Tensor, Tensor, Tensor, int]


def _digits() -> Samples:
    """scikit-learn's 1,797 hand-written digits: 8x8 pixels of 17 grey levels (UCI, 1998)."""
    digits = optional("sklearn.datasets", extra="demo").load_digits()
    pixels = torch.from_numpy(digits.images).to(torch.float32).unsqueeze(1) / 16
    target = torch.from_numpy(digits.target).to(torch.int64)
    return pixels, target, _held_out(digits.target), 10


#: Characters in a run of text, each with the one that follows it.
RUN = 32


def _documentation() -> Samples:
    """Python's documentation of its language, every tenth run of which is held out."""
    text = documentation().long()
    runs = text[: len(text) // (RUN + 1) * (RUN + 1)].view(-1, RUN + 1)
    held_out = torch.arange(len(runs)) % 10 == 9
    return runs[:, :-1].contiguous(), runs[:, 1:].contiguous(), held_out, 128


_DATA: dict[str, Callable[[], Samples]] = {"digits": _digits, "documentation": _documentation}
