"""Calibration: observers, and the context that gathers ranges with them."""

from dovetail.calibration.calibrate import calibrate
from dovetail.calibration.observers import MinMax, Observer, Percentile, observer

__all__ = ["MinMax", "Observer", "Percentile", "calibrate", "observer"]
