"""Small real models and data that ship with dovetail, for examples and tests without a download.

model = zoo.build("digits-cnn")
model.load_state_dict(zoo.checkpoint("digits-cnn"))
data = zoo.data.load("digits")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from dovetail.errors import unknown
from dovetail.zoo import data, digits

__all__ = ["build", "checkpoint", "data", "digits", "names", "train"]


@dataclass(frozen=True)
class _Entry:
    build: Callable[[], nn.Module]
    train: Callable[..., nn.Module]
    checkpoint: Path


_ZOO = {
    "digits-cnn": _Entry(
        digits.DigitsCNN, digits.train, Path(__file__).with_name("digits-cnn.safetensors")
    ),
}


def names() -> list[str]:
    """The models of the zoo.

    >>> names()
    ['digits-cnn']
    """
    return sorted(_ZOO)


def build(name: str) -> nn.Module:
    """The model ``name``, untrained, its weights drawn from torch's global generator.

    >>> sum(p.numel() for p in build("digits-cnn").parameters())
    17162
    >>> build("digits-rnn")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown model 'digits-rnn'; did you mean 'digits-cnn'? ...
    """
    return _entry(name).build()


def checkpoint(name: str) -> dict[str, Tensor]:
    """The trained weights that ship with dovetail, as a ``state_dict`` for ``build(name)``.

    They were trained on ``zoo.data``'s training images only, by ``examples/train_digits.py``.

    >>> model = build("digits-cnn")
    >>> model.load_state_dict(checkpoint("digits-cnn"))
    <All keys matched successfully>
    """
    return load_file(_entry(name).checkpoint)


def train(name: str, *, seed: int = 0, progress: bool = True) -> nn.Module:
    """The model ``name`` trained from scratch: the way its shipped checkpoint was made.

    >>> train("digits-cm")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown model 'digits-cm'; did you mean 'digits-cnn'? ...
    """
    return _entry(name).train(seed=seed, progress=progress)


def _entry(name: str) -> _Entry:
    if name not in _ZOO:
        raise unknown("model", name, _ZOO)
    return _ZOO[name]
