"""AdaPT's layers: a torch layer whose products of 8-bit codes a multiplier computes.

Until their ranges are known (`dovetail.compat.adapt.collect_stats`) they compute as torch does.
Gradients pass straight through where nothing was clipped.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dovetail.compat._layers import OwnProducts, spelling
from dovetail.compat.adapt.multiplier import axx_multiplier
from dovetail.compat.adapt.pytorch_quantization.nn import TensorQuantizer
from dovetail.emulation.calls import Call
from dovetail.emulation.execute import product_of_codes
from dovetail.formats import IntFormat
from dovetail.multipliers import Multiplier

__all__ = ["AdaPT_Conv2d", "AdaPT_ConvTranspose2d", "AdaPT_LSTM", "AdaPT_Linear"]

_FORMATS = IntFormat(8), IntFormat(8, per_tensor=True)


class _AdaPT(OwnProducts):
    """Mixin: ``axx_mult`` names the multiplier, or is what `dovetail.multiplier` takes."""

    def __init__(self, *args: Any, axx_mult: Any = "mul8s_acc", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.axx_mult = axx_mult
        self._add_quantizers()

    @property
    def axx_mult(self) -> Any:
        """The multiplier, as it was given; another may be set, the ranges stay."""
        return self._axx_mult

    @axx_mult.setter
    def axx_mult(self, given: Any) -> None:
        chosen = axx_multiplier(given)
        self._spelling = spelling(*_FORMATS, chosen)
        self._axx_mult, self._multiplier = given, chosen

    @property
    def multiplier(self) -> Multiplier:
        """The multiplier itself."""
        return self._multiplier

    def _add_quantizers(self) -> None:
        self.quantizer, self.quantizer_w = TensorQuantizer(), TensorQuantizer()

    def _quantizers(self, index: int) -> tuple[TensorQuantizer, TensorQuantizer]:
        del index
        return self.quantizer, self.quantizer_w

    def _product(self, index: int, call: Call) -> Tensor:
        quantizer, quantizer_w = self._quantizers(index)
        quantizer.seen(call.x)
        quantizer_w.seen(call.weight)
        given, own = quantizer.range(), quantizer_w.range()
        if given is None or own is None:
            return call.exact()
        return product_of_codes(call, (*given, *own), self._spelling)


class AdaPT_Linear(_AdaPT, nn.Linear):  # noqa: N801 - their name
    """``nn.Linear``, of inputs of any rank.

    >>> import torch
    >>> layer = AdaPT_Linear(784, 10, axx_mult="mul8s_1L2H")
    >>> layer.multiplier, layer(torch.rand(2, 784)).shape
    (mul8s_1L2H@v1.1, torch.Size([2, 10]))
    """

    def __init__(
        self, size_in: int, size_out: int, bias: bool = True, axx_mult: Any = "mul8s_acc",
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(size_in, size_out, bias, device, dtype, axx_mult=axx_mult)
        self.size_in, self.size_out = size_in, size_out


class AdaPT_Conv2d(_AdaPT, nn.Conv2d):  # noqa: N801 - their name
    """``nn.Conv2d``, with any padding, dilation and groups.

    >>> AdaPT_Conv2d(4, 8, 3, groups=2, axx_mult="mul8s_1KV9").multiplier
    mul8s_1KV9@v2022
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True,
        padding_mode: str = "zeros", axx_mult: Any = "mul8s_acc",
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        window = kernel_size, stride, padding, dilation, groups, bias, padding_mode
        super().__init__(in_channels, out_channels, *window, device, dtype, axx_mult=axx_mult)


class AdaPT_ConvTranspose2d(_AdaPT, nn.ConvTranspose2d):  # noqa: N801 - their name
    """``nn.ConvTranspose2d``, with any padding, dilation and groups.

    >>> AdaPT_ConvTranspose2d(4, 8, 4, stride=2, axx_mult="mul8s_acc").multiplier
    exact(bits=8, signed=True)
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, output_padding: Any = 0, groups: int = 1, bias: bool = True,
        dilation: Any = 1, padding_mode: Any = "zeros", axx_mult: Any = "mul8s_acc",
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        window = kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode
        super().__init__(in_channels, out_channels, *window, device, dtype, axx_mult=axx_mult)


class AdaPT_LSTM(_AdaPT, nn.LSTM):  # noqa: N801 - their name
    """``nn.LSTM``, with any number of layers, directions and projections, over padded or packed
    sequences. Its products have quantisers of their own, in the order in which
    `dovetail.emulation.composites.recurrent` numbers them; the gates' functions stay exact.

    >>> layer = AdaPT_LSTM(4, 8, num_layers=2, axx_mult="mul8s_1L2H")
    >>> len(layer.quantizer)
    4
    """

    def _add_quantizers(self) -> None:
        parts = self.num_layers * (2 if self.bidirectional else 1)
        products = parts * (3 if self.proj_size else 2)
        self.quantizer: Any = nn.ModuleList(TensorQuantizer() for _ in range(products))
        self.quantizer_w: Any = nn.ModuleList(TensorQuantizer() for _ in range(products))

    def _quantizers(self, index: int) -> tuple[TensorQuantizer, TensorQuantizer]:
        return self.quantizer[index], self.quantizer_w[index]
