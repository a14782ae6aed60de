"""The range of a layer's input: what their quantisers and torch's observers do, by ours."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.ao.quantization.fake_quantize import FakeQuantizeBase

from dovetail.compat._layers import Late
from dovetail.errors import DovetailError
from dovetail.formats import Format, IntFormat
from dovetail.formats import format as to_format
from dovetail.formats.observers import observer
from dovetail.formats.quantization import scale_zero_point

__all__ = ["QConfig", "Quantizer", "qconfig_of"]


class QConfig(NamedTuple):
    """Formats of a layer's input and weight, and how the input's range is found.

    The defaults are TorchApprox's: inputs of 7 bits with a zero point, symmetric weights of 8 bits
    with one scale. Its histogram of the inputs made training slow; a moving average does not.
    """

    input: str | Format = "uint7"
    weight: str | Format = "int8(full, per_tensor)"
    observer: str = "moving_average(0.99)"


class Quantizer(Late):
    """Scale and zero point of an input, observed at every forward while ``observer_enabled``, as
    torch's ``FakeQuantize`` does: ``model.apply(torch.ao.quantization.disable_observer)`` and the
    like reach it. A range that is loaded stays until observing is enabled.
    """

    late = ("scale", "zero_point")

    scale: Tensor | None
    zero_point: Tensor | None

    def __init__(self, format: IntFormat, spec: str) -> None:
        super().__init__()
        self.format, self.spec = format, spec
        self._observer = observer(spec)
        self.observer_enabled, self.fake_quant_enabled = True, True

    def enable_observer(self, enabled: bool = True) -> None:
        """Observe from now on."""
        self.observer_enabled = bool(enabled)

    def disable_observer(self) -> None:
        """Keep the range as it is."""
        self.observer_enabled = False

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Compute with codes from now on."""
        self.fake_quant_enabled = bool(enabled)

    def disable_fake_quant(self) -> None:
        """Compute as torch does."""
        self.fake_quant_enabled = False

    def range(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point for ``x``, which is observed if that is enabled or none is known."""
        if (self.observer_enabled or self.scale is None) and x.numel():
            self._observer.update(x.detach().reshape(1, -1))
            low, high = self._observer.range(self.format)
            if not bool((low.isfinite() & high.isfinite()).all()):
                raise DovetailError(f"an input ranges over {float(low)}..{float(high)}")
            scale, zero = scale_zero_point(self.format, low[0], high[0])
            self._found("scale", scale)
            self._found("zero_point", zero)
        if self.scale is None or self.zero_point is None:
            raise DovetailError("the range of an input is not known, and this one is empty")
        return self.scale, self.zero_point

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if prefix + "scale" in state_dict:
            self.observer_enabled = False
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """The format and the observer."""
        return f"{self.format}, {self.spec}"


FakeQuantizeBase.register(Quantizer)


def qconfig_of(given: Any) -> QConfig:
    """A `QConfig`, from one or from torch's ``QConfig`` of ``FakeQuantize.with_args(...)``.

    >>> qconfig_of(None).input
    uint7
    """
    config = given if given is not None else QConfig()
    if not isinstance(config, QConfig):
        config = _from_torch(config)
    made = QConfig(to_format(config.input), to_format(config.weight), config.observer)
    for slot in ("input", "weight"):
        if not isinstance(getattr(made, slot), IntFormat):
            raise DovetailError(
                f"{slot}={getattr(made, slot)}: these layers multiply integer codes; give a "
                "format such as 'int8'"
            )
    return made


_OBSERVERS = {
    "MinMaxObserver": "minmax",
    "MovingAverageMinMaxObserver": "moving_average(0.99)",
    "HistogramObserver": "histogram",
}


def _from_torch(config: Any) -> QConfig:
    try:
        activation, weight = (_made(getattr(config, slot)) for slot in ("activation", "weight"))
    except AttributeError:
        raise DovetailError(
            f"{config!r} is neither dovetail's QConfig nor torch's, of FakeQuantize.with_args(...)"
        ) from None
    name = type(activation.activation_post_process).__name__
    if name not in _OBSERVERS:
        raise DovetailError(f"{name} observes no input here; known are {', '.join(_OBSERVERS)}")
    return QConfig(_format(activation, None), _format(weight, 0), _OBSERVERS[name])


def _made(constructor: Any) -> Any:
    made = constructor() if callable(constructor) or isinstance(constructor, partial) else None
    if not isinstance(made, FakeQuantizeBase):
        raise AttributeError
    return made


def _format(fake: Any, axis: int | None) -> IntFormat:
    """The format with the codes of a ``FakeQuantize``."""
    low, high = int(fake.quant_min), int(fake.quant_max)
    channel = fake.qscheme in (torch.per_channel_affine, torch.per_channel_symmetric)
    affine = fake.qscheme in (torch.per_tensor_affine, torch.per_channel_affine)
    signed, bits = low < 0, (high.bit_length() + (low < 0))
    if channel and axis is None:
        raise DovetailError("an input's codes share one scale: per_channel is for weights alone")
    made = IntFormat(
        bits,
        signed,
        affine,
        signed and not affine and low == ~high,
        axis is not None and not channel,
    )
    if (made.qmin, made.qmax) != (low, high):
        raise DovetailError(
            f"codes {low}..{high}: the nearest format is '{made}', {made.qmin}..{made.qmax}"
        )
    return made
