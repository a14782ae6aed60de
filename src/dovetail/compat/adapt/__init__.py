"""``import adapt``, here ``from dovetail.compat import adapt``.

``adapt.approx_layers.axx_layers`` stands where it stood, and what the notebooks use of
pytorch-quantization in ``adapt.pytorch_quantization``; all is reachable from here as well.
"""

from dovetail.compat.adapt.approx_layers import axx_layers
from dovetail.compat.adapt.approx_layers.axx_layers import (
    AdaPT_Conv2d,
    AdaPT_ConvTranspose2d,
    AdaPT_Linear,
    AdaPT_LSTM,
)
from dovetail.compat.adapt.multiplier import axx_multiplier
from dovetail.compat.adapt.pytorch_quantization.nn import TensorQuantizer
from dovetail.compat.adapt.stats import collect_stats, compute_amax
from dovetail.compat.adapt.train import evaluate, train_one_epoch

__all__ = [
    "AdaPT_Conv2d",
    "AdaPT_ConvTranspose2d",
    "AdaPT_LSTM",
    "AdaPT_Linear",
    "TensorQuantizer",
    "axx_layers",
    "axx_multiplier",
    "collect_stats",
    "compute_amax",
    "evaluate",
    "train_one_epoch",
]
