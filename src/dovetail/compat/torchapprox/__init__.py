"""``import torchapprox``, here ``from dovetail.compat import torchapprox``.

``torchapprox.layers``, ``.operators.htp_models``, ``.utils.conversion`` and ``.utils.evoapprox``
stand where they stood; everything in them is reachable from here as well.
"""

from dovetail.compat.torchapprox import layers, operators, utils
from dovetail.compat.torchapprox.layers import (
    ApproxConv2d,
    ApproxLayer,
    ApproxLinear,
    ApproxWrapper,
    InferenceMode,
    TracedGeMMInputs,
    layer_mapping_dict,
)
from dovetail.compat.torchapprox.operators.htp_models import (
    htp_models_mul8s,
    htp_models_mul12s,
    htp_models_mul16s,
)
from dovetail.compat.torchapprox.operators.lut import LUT
from dovetail.compat.torchapprox.quantizer import QConfig
from dovetail.compat.torchapprox.utils.conversion import (
    get_approx_modules,
    inplace_conversion,
    wrap_quantizable,
)
from dovetail.compat.torchapprox.utils.evoapprox import lut

__all__ = [
    "LUT",
    "ApproxConv2d",
    "ApproxLayer",
    "ApproxLinear",
    "ApproxWrapper",
    "InferenceMode",
    "QConfig",
    "TracedGeMMInputs",
    "get_approx_modules",
    "htp_models_mul8s",
    "htp_models_mul12s",
    "htp_models_mul16s",
    "inplace_conversion",
    "layer_mapping_dict",
    "layers",
    "lut",
    "operators",
    "utils",
    "wrap_quantizable",
]
