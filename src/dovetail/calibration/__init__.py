"""Calibration: the context that gathers ranges, by the observers of :mod:`dovetail.formats`."""

from dovetail.calibration.calibrate import calibrate
from dovetail.calibration.gathered import Calibrated, Calibration

__all__ = ["Calibrated", "Calibration", "calibrate"]
