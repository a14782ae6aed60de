"""The figures of reports and papers: each a list of marks, as SVG, PNG or PDF."""

from dovetail.analysis.figures.bars import layer_bars
from dovetail.analysis.figures.curve import fit_curve
from dovetail.analysis.figures.drawing import Drawing
from dovetail.analysis.figures.energy import energy_bars
from dovetail.analysis.figures.heat import change_map, noise_map
from dovetail.analysis.figures.histogram import histogram
from dovetail.analysis.figures.pareto import Design, pareto
from dovetail.analysis.figures.picture import save_picture

__all__ = [
    "Design",
    "Drawing",
    "change_map",
    "energy_bars",
    "fit_curve",
    "histogram",
    "layer_bars",
    "noise_map",
    "pareto",
    "save_picture",
]
