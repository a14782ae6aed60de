"""A language model of characters, an embedding, LSTM layers and a linear head, and its text."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn

from dovetail.training import fit

__all__ = ["LSTMLanguageModel", "documentation", "train"]

EPOCHS, LR = 3, 3e-3


def documentation() -> Tensor:
    """The documentation of Python's language that comes with Python, for ``help()``, as the codes
    of its characters (uint8), without those beyond ASCII. Another version of Python has another.

    >>> text = documentation()
    >>> len(text) > 300_000, int(text.max()) < 128
    (True, True)
    """
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    text = "\n".join(topics[name] for name in sorted(topics))
    return torch.tensor(list(text.encode("ascii", "ignore")), dtype=torch.uint8)


class LSTMLanguageModel(nn.Module):
    """``[B, T]`` characters (their codes below ``characters``) to ``[B, T, characters]`` logits of
    the one that follows each.

    >>> import torch
    >>> LSTMLanguageModel(width=16)(torch.zeros(2, 7, dtype=torch.int64)).shape
    torch.Size([2, 7, 128])
    """

    def __init__(self, characters: int = 128, width: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, characters)

    def forward(self, text: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(text))
        logits: Tensor = self.head(states)
        return logits


def train(*, seed: int = 0, epochs: int = EPOCHS, progress: bool = True) -> LSTMLanguageModel:
    """Train an :class:`LSTMLanguageModel` on ``zoo.data``'s documentation; returned in eval mode.

    The same seed gives the same weights on the same machine and thread count. An epoch takes about
    ten seconds.
    """
    from dovetail.zoo import data

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LSTMLanguageModel()
    text = data.load("documentation", seed=seed)
    fit(model, text.train, epochs=epochs, lr=LR, seed=seed, progress=progress)
    return model.eval()
