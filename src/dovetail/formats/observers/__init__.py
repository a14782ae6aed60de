"""Observers: how the range of a tensor follows from its values.

Of activations they see batch after batch, keeping extremes or a histogram; of a weight they see the
values themselves.
"""

from dovetail.formats.observers.base import Observer
from dovetail.formats.observers.criteria import LeastError, Percentile
from dovetail.formats.observers.extremes import MinMax, MovingAverage
from dovetail.formats.observers.registry import OBSERVERS, Entropy, Sampled, observer, range_by
from dovetail.formats.observers.sample import Histogram, Sample

__all__ = [
    "OBSERVERS",
    "Entropy",
    "Histogram",
    "LeastError",
    "MinMax",
    "MovingAverage",
    "Observer",
    "Percentile",
    "Sample",
    "Sampled",
    "observer",
    "range_by",
]
