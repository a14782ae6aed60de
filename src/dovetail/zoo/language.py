"""A language model of characters: an embedding, LSTM layers, and a linear head."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["LSTMLanguageModel"]


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
