"""A small transformer for 8x8 digits that reads an image row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dovetail.training.fit import fit
from dovetail.zoo import data

__all__ = ["RowTransformer", "train"]

EPOCHS = 60
LR = 2e-3
WIDTH, HEADS, ROWS = 32, 4, 8


class Block(nn.Module):
    """Attention among the rows, then two layers on each; norms before both.

    >>> Block()(torch.zeros(2, 8, 32)).shape
    torch.Size([2, 8, 32])
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, rows, width = x.shape
        heads = self.qkv(self.norm1(x)).view(batch, rows, 3, HEADS, width // HEADS)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, rows, width))
        y: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return y


class RowTransformer(nn.Module):
    """``[B, 1, 8, 8]`` pixels in 0..1 to ``[B, 10]`` logits; 18,026 parameters.

    Each row of pixels is a token; two blocks of width 32 with four heads, then the mean over the
    rows and a linear head.

    >>> RowTransformer()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(ROWS, WIDTH))
        self.block1, self.block2 = Block(), Block()
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.embed(x.squeeze(1)) + self.place
        rows = self.block2(self.block1(rows))
        logits: Tensor = self.head(self.norm(rows).mean(dim=1))
        return logits


def train(*, seed: int = 0, epochs: int = EPOCHS, progress: bool = True) -> RowTransformer:
    """Train a :class:`RowTransformer` on ``zoo.data``'s training images; it ends in eval mode.

    The same seed gives the same weights on the same machine and thread count. Takes seconds.

    >>> train(seed=0, epochs=1, progress=False).training
    False
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RowTransformer()
    digits = data.load("digits", seed=seed, batch_size=32)
    fit(
        model,
        digits.train,
        epochs=epochs,
        lr=LR,
        optimizer="adamw(weight_decay=0.3)",
        schedule="cosine(warmup=0.05)",
        seed=seed,
        progress=progress,
    )
    return model.eval()
