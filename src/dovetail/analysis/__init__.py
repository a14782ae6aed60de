"""What an emulation costs and where: accuracy, per-layer noise and energy, and the report."""

from dovetail.analysis.attribution import (
    Attribution,
    AttributionRow,
    Histogram,
    OpSummary,
    attribute,
    first_order,
)
from dovetail.analysis.graph import Edge, Graph, Node, graph
from dovetail.analysis.layers import LayerRow, LayerTable, Total, layers
from dovetail.analysis.masks import MaskRow, MaskTable, masks
from dovetail.analysis.metrics import Interval, accuracy, perplexity, sqnr_db, wilson
from dovetail.analysis.operands import OperandCounts, operand_counts
from dovetail.analysis.tree import tree

__all__ = [
    "Attribution",
    "AttributionRow",
    "Edge",
    "Graph",
    "Histogram",
    "Interval",
    "LayerRow",
    "LayerTable",
    "MaskRow",
    "MaskTable",
    "Node",
    "OpSummary",
    "OperandCounts",
    "Total",
    "accuracy",
    "attribute",
    "first_order",
    "graph",
    "layers",
    "masks",
    "operand_counts",
    "perplexity",
    "sqnr_db",
    "tree",
    "wilson",
]
