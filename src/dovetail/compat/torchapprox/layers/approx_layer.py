"""What TorchApprox's layers have in common."""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from dovetail.compat._layers import OwnProducts
from dovetail.compat.torchapprox.operators.lut import LUT
from dovetail.compat.torchapprox.quantizer import QConfig, Quantizer, qconfig_of
from dovetail.emulation.calls import Call
from dovetail.emulation.execute import product_of_codes
from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.formats.quantization import quantize
from dovetail.kernels.layer import weight_codes

__all__ = ["ApproxLayer", "InferenceMode", "TracedGeMMInputs"]

#: ``model(base_func, op1, op2, kwargs)``, see `dovetail.compat.torchapprox.operators.htp_models`.
FastModel = Callable[..., Tensor]


class InferenceMode(enum.Enum):
    """How a layer computes: as torch does; quantised; with noise in training; with its table."""

    BASELINE = "Baseline Mode"
    QUANTIZED = "Quantized Mode"
    NOISE = "Noise Mode"
    APPROXIMATE = "Approximate Mode"


@dataclass
class TracedGeMMInputs:
    """The codes a layer multiplied: of the inputs, one batch after the other, and of the weight."""

    features: Tensor | None = None
    weights: Tensor | None = None

    def trace(self, features: Tensor, weights: Tensor) -> None:
        """Append a batch."""
        before = [] if self.features is None else [self.features]
        self.features, self.weights = torch.cat([*before, features]), weights


class ApproxLayer(OwnProducts):
    """Mixin of `ApproxLinear` and `ApproxConv2d`: a torch layer on quantised operands.

    ``inference_mode`` says how it computes, ``approx_op.lut`` holds the table, ``fast_model``
    (also ``htp_model``) a model to be used in its place. In ``NOISE`` mode, while the layer trains,
    ``randn * std(y) * stdev + mean`` is added. ``traced_inputs`` collects the codes, if it is set.
    Gradients pass straight through where the input is not clipped.
    """

    weight: Tensor
    qconfig = None  # torch's prepare_qat need not observe what this computes

    def __init__(self, *args: Any, qconfig: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = qconfig_of(qconfig)
        assert isinstance(config.input, IntFormat)
        assert isinstance(config.weight, IntFormat)
        self.weight_format = config.weight
        self.x_quantizer = Quantizer(config.input, config.observer)
        self.approx_op, self._exact = LUT(None, config), LUT(None, config).spelling
        self.inference_mode = InferenceMode.QUANTIZED
        self.fast_model: FastModel | None = None
        self.traced_inputs: TracedGeMMInputs | None = None
        self.stdev, self.mean = 0.0, 0.0
        self._opcount: int | None = None

    @staticmethod
    def default_qconfig() -> QConfig:
        """TorchApprox's formats."""
        return qconfig_of(None)

    @classmethod
    def from_float(cls, layer: nn.Module) -> Any:
        """This layer with the parameters of a torch layer; see ``from_super``."""
        return cls.from_super(layer, getattr(layer, "qconfig", None))

    @classmethod
    def from_super(cls, layer: Any, qconfig: Any = None) -> Any:
        """This layer with the parameters of a torch layer, which they go on sharing."""
        if is_parametrized(layer):
            raise DovetailError(
                "a layer with parametrizations cannot be converted: remove them first, with "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
        made = cls(*cls._arguments(layer), bias=layer.bias is not None, device="meta",
                   qconfig=qconfig)  # fmt: skip
        made.weight = layer.weight
        made.bias = layer.bias
        return made.train(layer.training)

    @staticmethod
    @abstractmethod
    def _arguments(layer: Any) -> tuple[Any, ...]:
        """What the constructor takes before ``bias``."""

    @property
    def htp_model(self) -> FastModel | None:
        """Another name of ``fast_model``."""
        return self.fast_model

    @htp_model.setter
    def htp_model(self, model: FastModel | None) -> None:
        self.fast_model = model

    @property
    def fan_in(self) -> int:
        """How many products are summed into one output."""
        return self.weight[0].numel()

    @property
    def opcount(self) -> int:
        """How many products one sample takes, of the size last seen."""
        if self._opcount is None:
            raise DovetailError("the number of products follows from the input: run it once first")
        return self._opcount

    def get_extra_state(self) -> dict[str, Any]:
        """The mode, the multiplier and the noise."""
        mul = self.approx_op.multiplier
        kept = mul.table() if repr(mul).startswith("table(") else repr(mul)
        mode = self.inference_mode.name
        return {"mode": mode, "lut": kept, "stdev": self.stdev, "mean": self.mean}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Put back what ``get_extra_state`` gave."""
        self.inference_mode = InferenceMode[state["mode"]]
        self.approx_op.lut = state["lut"]
        self.stdev, self.mean = state["stdev"], state["mean"]

    def _product(self, index: int, call: Call) -> Tensor:
        del index
        scale, zero = self.x_quantizer.range(call.x)
        y = self._computed(call, scale, zero)
        self._opcount = y.numel() // max(1, self._samples(call.x)) * call.reduction
        return y

    @staticmethod
    def _samples(x: Tensor) -> int:
        return x.shape[0]

    def _computed(self, call: Call, scale: Tensor, zero: Tensor) -> Tensor:
        mode = self.inference_mode
        if mode is InferenceMode.BASELINE or not self.x_quantizer.fake_quant_enabled:
            return call.exact()
        if self.traced_inputs is not None:
            self.traced_inputs.trace(*self._codes(call, scale, zero)[:2])
        if mode is InferenceMode.APPROXIMATE:
            if self.fast_model is None or self.traced_inputs is not None:
                return self._emulated(call, scale, zero, self.approx_op.spelling)
            return self._modelled(self.fast_model, call, scale, zero)
        if mode is InferenceMode.NOISE and self.training:
            y = self._emulated(
                call.with_operands(call.x, call.weight, None), scale, zero, self._exact
            )
            y = y + torch.randn_like(y) * y.std() * self.stdev + self.mean
            return y if call.bias is None else y + _per_output(call.bias, call)
        return self._emulated(call, scale, zero, self._exact)

    @staticmethod
    def _emulated(call: Call, scale: Tensor, zero: Tensor, arithmetic: str) -> Tensor:
        return product_of_codes(call, (scale, zero, None, None), arithmetic)

    def _codes(self, call: Call, scale: Tensor, zero: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes of the input and of the weight, and the weight's scale."""
        x = quantize(call.x.detach(), self.x_quantizer.format, scale, zero)
        w, (w_scale, _) = weight_codes(call.weight.detach(), self.weight_format, None)
        return x, w, w_scale

    def _modelled(self, model: FastModel, call: Call, scale: Tensor, zero: Tensor) -> Tensor:
        """The exact result, which has the gradient, and what the model says that it is off."""
        y = self._emulated(call, scale, zero, self._exact)
        with torch.no_grad(), torch.autocast(call.x.device.type, enabled=False):
            x, w, w_scale = self._codes(call, scale, zero)
            base, kwargs, g = _BASE[call.geometry.spatial], {}, call.geometry
            x = x.float()
            if g.spatial:
                kwargs = {"stride": g.stride, "dilation": g.dilation, "groups": g.groups}
                pads = [p for pair in reversed(g.padding) for p in pair]
                x = F.pad(x, pads, value=float(zero))
            error = model(base, x, w.float(), kwargs) - base(x, w.float(), **kwargs)
            error = error * (scale * _per_output(w_scale, call))
        return y + error.to(y.dtype)


_BASE: dict[int, Callable[..., Tensor]] = {0: F.linear, 2: F.conv2d}


def _per_output(values: Tensor, call: Call) -> Tensor:
    return values.view(-1, *[1] * call.geometry.spatial) if values.dim() else values
