"""What an emulation costs and where: accuracy, per-layer noise and energy, and the report."""

from dovetail.analysis.costs import CostRow, Costs, costs
from dovetail.analysis.layers import LayerRow, LayerTable, Total, layers
from dovetail.analysis.masks import MaskRow, MaskTable, masks
from dovetail.analysis.metrics import Interval, accuracy, sqnr_db, wilson
from dovetail.analysis.tree import tree

__all__ = [
    "CostRow",
    "Costs",
    "Interval",
    "LayerRow",
    "LayerTable",
    "MaskRow",
    "MaskTable",
    "Total",
    "accuracy",
    "costs",
    "layers",
    "masks",
    "sqnr_db",
    "tree",
    "wilson",
]
