"""Models and data that ship with dovetail, for examples, tests and measurements without a download.

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

from dovetail.errors import DovetailError, unknown
from dovetail.zoo import data, dcgan, digits, language, mobilenet, resnet, rows, unet

__all__ = [
    "build",
    "checkpoint",
    "data",
    "dcgan",
    "digits",
    "has_checkpoint",
    "language",
    "mobilenet",
    "names",
    "resnet",
    "rows",
    "train",
    "unet",
]


@dataclass(frozen=True)
class _Entry:
    build: Callable[[], nn.Module]
    train: Callable[..., nn.Module] | None = None
    checkpoint: Path | None = None


_ZOO = {
    "digits-cnn": _Entry(
        digits.DigitsCNN, digits.train, Path(__file__).with_name("digits-cnn.safetensors")
    ),
    "dcgan-generator": _Entry(dcgan.Generator),
    "dcgan-discriminator": _Entry(dcgan.Discriminator),
    "lstm-lm": _Entry(language.LSTMLanguageModel, language.train),
    "mobilenet-v2": _Entry(mobilenet.mobilenet_v2),
    "resnet18": _Entry(resnet.resnet18),
    "resnet50": _Entry(resnet.resnet50),
    "row-transformer": _Entry(
        rows.RowTransformer, rows.train, Path(__file__).with_name("row-transformer.safetensors")
    ),
    "unet": _Entry(unet.UNet),
}


def names() -> list[str]:
    """The models of the zoo.

    >>> names()
    ['dcgan-discriminator', 'dcgan-generator', 'digits-cnn', 'lstm-lm', 'mobilenet-v2', 'resnet18',
     'resnet50', 'row-transformer', 'unet']
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
    >>> checkpoint("resnet18")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: no trained weights of 'resnet18' ship with dovetail; ...
    """
    path = _entry(name).checkpoint
    if path is None:
        raise DovetailError(
            f"no trained weights of '{name}' ship with dovetail; zoo.build('{name}') draws some"
        )
    return load_file(path)


def has_checkpoint(name: str) -> bool:
    """Whether trained weights of ``name`` ship with dovetail.

    >>> has_checkpoint("digits-cnn"), has_checkpoint("lstm-lm")
    (True, False)
    """
    return _entry(name).checkpoint is not None


def train(name: str, *, seed: int = 0, progress: bool = True) -> nn.Module:
    """The model ``name`` trained from scratch: the way its shipped checkpoint was made.

    >>> train("digits-cm")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown model 'digits-cm'; did you mean 'digits-cnn'? ...
    """
    how = _entry(name).train
    if how is None:
        raise DovetailError(f"'{name}' has no training of its own: dv.fit trains any model")
    return how(seed=seed, progress=progress)


def _entry(name: str) -> _Entry:
    if name not in _ZOO:
        raise unknown("model", name, _ZOO)
    return _ZOO[name]
