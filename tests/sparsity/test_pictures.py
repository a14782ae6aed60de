"""Masks drawn and counted."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from dovetail.errors import DovetailError
from dovetail.sparsity import draw, save_png, statistics


def test_every_dot_is_a_weight() -> None:
    mask = torch.zeros(4, 2, dtype=torch.bool)
    for dot, (row, column) in zip(
        "⠁⠈⠂⠐⠄⠠⡀⢀", [(r, c) for r in range(4) for c in range(2)], strict=True
    ):
        one = mask.clone()
        one[row, column] = True
        assert draw(one) == dot


def test_many_weights_share_a_dot_by_majority() -> None:
    mask = torch.zeros(64, 400, dtype=torch.bool)
    mask[:32, :200] = True
    lines = draw(mask, width=10, height=4).splitlines()
    assert [len(line) for line in lines] == [10] * 4
    assert lines[0] == "⣿" * 5 + "⠀" * 5
    assert lines[3] == "⠀" * 10
    with pytest.raises(DovetailError, match="nothing to draw"):
        draw(mask[:0])


def pixels(path: Path) -> np.ndarray:
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    raw = zlib.decompress(data[start + 4 : start + 4 + length])
    return np.frombuffer(raw, np.uint8).reshape(height, width + 1)[:, 1:]


def test_pictures_show_the_share_that_is_kept(tmp_path: Path) -> None:
    mask = torch.tensor([[1, 0, 1], [1, 0, 0]]) == 1
    save_png(mask, tmp_path / "mask.png")
    assert pixels(tmp_path / "mask.png").tolist() == [[255, 0, 255], [255, 0, 0]]
    save_png(mask, tmp_path / "small.png", side=2)
    assert pixels(tmp_path / "small.png").tolist() == [[128, 255], [128, 0]]


def test_statistics_of_a_convolution() -> None:
    mask = torch.zeros(16, 8, 3, 3, dtype=torch.bool)
    mask[:8, :2, 0, 0] = True
    found = statistics(mask, axis=1)
    assert (found.size, found.kept, found.density) == (1152, 16, 16 / 1152)
    assert (found.least, found.mean, found.most) == (0, 1.0, 2)
    assert (found.empty_outputs, found.empty_inputs) == (8, 70)
    assert found.n_of_m == {4: 2, 8: 2}
    assert found.empty_tiles == {"16x4": 16 / 18, "16x64": 0.5}
    assert found.to_dict()["density"] == found.density


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (5,)])
def test_statistics_of_odd_shapes(shape: tuple[int, ...]) -> None:
    found = statistics(torch.ones(shape, dtype=torch.bool))
    assert found.kept == found.size == torch.Size(shape).numel()
