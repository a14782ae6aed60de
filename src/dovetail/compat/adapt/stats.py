"""Calibration as AdaPT's notebooks do it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from dovetail._progress import progress
from dovetail.compat.adapt.pytorch_quantization.calib import HistogramCalibrator
from dovetail.compat.adapt.pytorch_quantization.nn import TensorQuantizer
from dovetail.errors import DovetailError

__all__ = ["collect_stats", "compute_amax"]


def collect_stats(model: nn.Module, data_loader: Iterable[Any], num_batches: int) -> None:
    """Show the model ``num_batches`` batches, computed as torch does, and collect their ranges.

    A batch is a tensor, or a tuple whose first is the input. Afterwards everything is as before.
    """
    quantizers = [quantizer for _, quantizer in _quantizers(model)]
    for quantizer in quantizers:
        quantizer.disable_quant()
        quantizer.enable_calib()
    try:
        batches = (batch for _, batch in zip(range(num_batches), data_loader, strict=False))
        for batch in progress(batches, "calibrating"):
            model(batch[0] if isinstance(batch, (tuple, list)) else batch)
    finally:
        for quantizer in quantizers:
            quantizer.enable_quant()
            quantizer.disable_calib()


def compute_amax(model: nn.Module, **kwargs: Any) -> dict[str, Tensor]:
    """Take over the ranges collected, by ``method="percentile"`` (``percentile=99.99``), ``"mse"``,
    ``"entropy"`` or ``"max"``; what every quantiser got, by its path.

    >>> import torch
    >>> from dovetail.compat.adapt.approx_layers.axx_layers import AdaPT_Linear
    >>> model = AdaPT_Linear(2, 1)
    >>> collect_stats(model, [torch.tensor([[1.0, -3.0]])], num_batches=1)
    >>> compute_amax(model, method="max")["quantizer"]
    tensor(3.)
    """
    found = {}
    for path, quantizer in _quantizers(model):
        histogram = isinstance(quantizer._calibrator, HistogramCalibrator)
        try:
            quantizer.load_calib_amax(**(kwargs if histogram else {}))
        except DovetailError as error:
            raise DovetailError(f"{path}: {error}") from None
        assert quantizer.amax is not None
        found[path] = quantizer.amax
    return found


def _quantizers(model: nn.Module) -> list[tuple[str, TensorQuantizer]]:
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, TensorQuantizer)]
    if not found:
        raise DovetailError("this model has no layer of AdaPT's, such as AdaPT_Conv2d")
    return found
