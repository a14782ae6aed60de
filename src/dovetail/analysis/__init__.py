"""What an emulation costs and where: accuracy, per-layer noise and energy, and the report."""

from dovetail.analysis.layers import LayerRow, LayerTable, Total, layers
from dovetail.analysis.masks import MaskRow, MaskTable, masks
from dovetail.analysis.metrics import Interval, accuracy, sqnr_db, wilson

__all__ = [
    "Interval",
    "LayerRow",
    "LayerTable",
    "MaskRow",
    "MaskTable",
    "Total",
    "accuracy",
    "layers",
    "masks",
    "sqnr_db",
    "wilson",
]
