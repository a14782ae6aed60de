"""``TensorQuantizer``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dovetail.compat._layers import Late
from dovetail.compat.adapt.pytorch_quantization.calib import HistogramCalibrator, MaxCalibrator
from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.formats.quantization import scale_zero_point

__all__ = ["TensorQuantizer"]


class TensorQuantizer(Late):
    """The range of one operand of a layer: ``amax``, the largest magnitude that has a code.

    ``enable_calib`` has it collect what it sees, ``load_calib_amax`` takes over what follows;
    ``state_dict()`` holds it as ``_amax`` once it is known.
    """

    late = ("_amax",)

    _amax: Tensor | None

    def __init__(
        self,
        format: IntFormat | None = None,
        calibrator: type[MaxCalibrator | HistogramCalibrator] = HistogramCalibrator,
    ) -> None:
        super().__init__()
        self.format = IntFormat(8) if format is None else format
        self._calibrator = calibrator(self.format)
        self._quantizes, self._calibrates, self._disabled = True, False, False

    def enable(self) -> None:
        """Take part."""
        self._disabled = False

    def disable(self) -> None:
        """Neither quantise nor collect."""
        self._disabled = True

    def enable_quant(self) -> None:
        """Quantise, once the range is known."""
        self._quantizes = True

    def disable_quant(self) -> None:
        """Leave values as they are."""
        self._quantizes = False

    def enable_calib(self) -> None:
        """Collect."""
        self._calibrates = True

    def disable_calib(self) -> None:
        """Collect no more."""
        self._calibrates = False

    @property
    def amax(self) -> Tensor | None:
        """The largest magnitude that has a code; None while it is not known."""
        return self._amax

    @amax.setter
    def amax(self, value: Any) -> None:
        self._found("_amax", value if isinstance(value, Tensor) else _float(value))

    def load_calib_amax(self, *args: Any, **kwargs: Any) -> None:
        """Take over what the calibrator makes of what it collected."""
        self.amax = self._calibrator.compute_amax(*args, **kwargs)

    def seen(self, x: Tensor) -> None:
        """Collect ``x``, if that is enabled."""
        if self._calibrates and not self._disabled:
            self._calibrator.collect(x)

    def range(self) -> tuple[Tensor, Tensor] | None:
        """Scale and zero point, or None where values stay as they are."""
        if self._amax is None or self._disabled or not self._quantizes:
            return None
        return scale_zero_point(self.format, -self._amax, self._amax)

    def extra_repr(self) -> str:
        """The format and the range."""
        return f"{self.format}, amax={'unknown' if self._amax is None else f'{self._amax:.4g}'}"


def _float(value: Any) -> Tensor:
    if not float(value) > 0:
        raise DovetailError(f"amax={value}: give the largest magnitude, above 0")
    return torch.tensor(float(value))
