"""Fourier transforms and what surrounds them; complex numbers are pairs on a last axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.compiler.onnx.types import dtype_of


@operator("DFT", 17, static=(1,))
def dft17(
    x: Tensor, length: Any = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Tensor:
    """Along an axis that is an attribute."""
    return dft(x, length, axis, inverse=inverse, onesided=onesided)


@operator("DFT", 20, static=(1, 2))
def dft(
    x: Tensor, length: Any = None, axis: int | None = None, *, inverse: int = 0, onesided: int = 0
) -> Tensor:
    """The input has one number or a pair at each place, the output pairs."""
    along = -2 if axis is None else axis
    along = along % x.dim()
    real = x.shape[-1] == 1
    if onesided and inverse:
        values: Tensor = torch.fft.irfft(torch.view_as_complex(x.contiguous()), length, along)
        return values.unsqueeze(-1)
    if onesided:
        return torch.view_as_real(torch.fft.rfft(x[..., 0], length, along))
    values = x[..., 0] if real else torch.view_as_complex(x.contiguous())
    function = torch.fft.ifft if inverse else torch.fft.fft
    return torch.view_as_real(function(values, length, along))


@operator("STFT", 17, static=(1, 3))
def stft(
    signal: Tensor,
    frame_step: int,
    window: Tensor | None = None,
    frame_length: int | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """The transform of every frame of a signal ``[batch, length, 1 or 2]``."""
    length = frame_length if frame_length is not None else 0
    if window is not None:
        length = length or window.shape[0]
    frames = signal.unfold(1, length, frame_step)  # [batch, frames, 1 or 2, length]
    if window is not None:
        frames = frames * window
    if frames.shape[2] == 1:
        function = torch.fft.rfft if onesided else torch.fft.fft
        return torch.view_as_real(function(frames[:, :, 0]))
    whole = torch.fft.fft(torch.complex(frames[:, :, 0], frames[:, :, 1]))
    return torch.view_as_real(whole[..., : length // 2 + 1] if onesided else whole)


_WINDOWS = {
    "HannWindow": (0.5, 0.5, 0.0),
    "HammingWindow": (25 / 46, 1 - 25 / 46, 0.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}


def _register_window(name: str, terms: tuple[float, float, float]) -> None:
    @operator(name, 17, static=(0,))
    def window(
        size: Any, *, output_datatype: int = 1, periodic: int = 1, device: torch.device
    ) -> Tensor:
        """A sum of cosines, periodic or symmetric."""
        count = int(size[0] if isinstance(size, list) else size)
        places = torch.arange(count, dtype=torch.float64, device=device)
        angle = 2 * torch.pi * places / max(count if periodic else count - 1, 1)
        a, b, c = terms
        return (a - b * torch.cos(angle) + c * torch.cos(2 * angle)).to(dtype_of(output_datatype))


for _name, _terms in _WINDOWS.items():
    _register_window(_name, _terms)


@operator("MelWeightMatrix", 17, static=(0, 1, 2, 3, 4))
def mel_weights(
    bins: int,
    length: int,
    rate: int,
    low: float,
    high: float,
    *,
    output_datatype: int = 1,
    device: torch.device,
) -> Tensor:
    """Triangles that are equally wide in mel, over the bins of a transform."""
    edges = torch.tensor([low, high], dtype=torch.float64)
    mel = 2595 * torch.log10(1 + edges / 700)
    steps = torch.arange(bins + 2, dtype=torch.float64)
    points = mel[0] + steps * ((mel[1] - mel[0]) / (bins + 2))
    hertz = 700 * (10 ** (points / 2595) - 1)
    places = torch.floor((length + 1) * hertz / rate).long().tolist()
    out = torch.zeros(length // 2 + 1, bins, dtype=torch.float64)
    for i in range(bins):
        start, centre, end = places[i : i + 3]
        if centre == start:
            out[centre, i] = 1
        else:
            rows = torch.arange(start, centre + 1)
            out[rows, i] = (rows - start).double() / (centre - start)
        if end > centre:
            rows = torch.arange(centre, end)
            out[rows, i] = (end - rows).double() / (end - centre)
    return out.to(device, dtype_of(output_datatype))
