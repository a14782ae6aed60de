"""Small networks, and the files that torch's two exporters make of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: What `torch.onnx.export(dynamo=True)` wrote of a network built with seed 0.
DATA = Path(__file__).parent / "data"


class Small(nn.Module):
    """Convolutions with padding, groups and batch norms, a residual sum, pools, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.ReLU6())
        self.head = nn.Linear(4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x + self.layer(x), 2)
        return self.head(x.reshape(x.shape[0], -1))


class Sequence(nn.Module):
    """An embedding, attention with its own shapes, layer norms, GELU, and a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, 11)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, length, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = F.softmax(q @ k.transpose(-1, -2) / 2.0, -1)
        x = x + self.out((scores @ v).transpose(1, 2).reshape(batch, length, width))
        return self.head(F.gelu(x))


def torchscript(model: nn.Module, example: Tensor, path: Path, **options: object) -> Path:
    """The model as `torch.onnx.export(dynamo=False)` writes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (example,), path, dynamo=False, **options)
    return path
